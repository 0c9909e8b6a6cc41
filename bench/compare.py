"""Refrain beside nginx, Varnish, LiteLLM and Portkey: what each does, not how fast it is.

    make bench BENCHES=bench/compare.py [ARGS="--only Refrain,Varnish"]

500 identical streams, a client that leaves, a full queue; docs/comparison.md says what the configurations in
bench/comparing are about. A peer that is not installed is left out. LiteLLM and Portkey take part if
COMPARE_LITELLM names a virtual environment that has it, and COMPARE_PORTKEY a folder with its node_modules.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from bench.comparing.peers import Peer, peers, simulator
from bench.comparing.scenarios import Row, identical, leaving, queue
from bench.harness import report, servers
from bench.harness.servers import BENCH, DidNotStart

#: Each with the model that answers: the fast one for the crowd, and the one that sees every caller leave.
SCENARIOS: Final = {
    "500 identical streams": (identical, servers.upstream),
    "A client that leaves": (leaving, simulator),
    "A full queue": (queue, simulator),
}
#: (scenario, peer) → its cells.
Results = dict[tuple[str, str], Row]


def main() -> int:
    """0 once everything was measured: these are observations, so none of them is a failure."""
    parser = argparse.ArgumentParser(
        description="what gateways do with identical streams, leavers and queues"
    )
    parser.add_argument("--only", default="", help="peers, by the start of their names: Refrain,nginx")
    only = tuple(name for name in parser.parse_args().only.split(",") if name) or ("",)
    subprocess.run([BENCH / "build.sh"], check=True)
    before = report.facts()
    try:
        versions, results = asyncio.run(compare(only))
    except DidNotStart as error:
        print(error, file=sys.stderr)
        return 1
    print(_page(before, versions, results))
    return 0


async def compare(only: tuple[str, ...]) -> tuple[dict[str, str], Results]:
    """One peer after the other, so that none takes the core of another."""
    versions: dict[str, str] = {}
    results: Results = {}
    with tempfile.TemporaryDirectory(prefix="refrain-compare-") as folder:
        scratch = Path(folder)
        async with servers.redis(scratch).running(scratch):
            for peer in [one for one in peers(scratch) if one.name.startswith(only)]:
                versions[peer.name] = peer.version
                results |= await _one(peer, scratch)
    return versions, results


async def _one(peer: Peer, scratch: Path) -> Results:
    found: Results = {}
    async with contextlib.AsyncExitStack() as stack:
        for server in peer.servers:
            await stack.enter_async_context(server.running(scratch))
        for name, (scenario, model) in SCENARIOS.items():
            async with model().running(scratch):
                found[name, peer.name] = await scenario(peer)
            print(name, peer.name, found[name, peer.name], sep=": ", flush=True)
    return found


def _page(before: list[str], versions: dict[str, str], results: Results) -> str:
    parts = ["\n".join([*before, *(f"- **{name}**: {version}" for name, version in versions.items())])]
    for scenario in SCENARIOS:
        rows = {peer: row for (name, peer), row in results.items() if name == scenario and row}
        parts.append(f"## {scenario}\n\n" + "\n".join(_table(rows)))
    return "\n\n".join(parts)


def _table(rows: dict[str, Row]) -> Iterable[str]:
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    yield f"| | {' | '.join(columns)} |"
    yield "|---" * (len(columns) + 1) + "|"
    for peer, row in rows.items():
        yield f"| {peer} | {' | '.join(row.get(column, '') for column in columns)} |"


if __name__ == "__main__":
    sys.exit(main())
