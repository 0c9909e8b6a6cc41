"""What a process that is alone costs now, beside another commit: `bench/versions.py --before REF`.

Both serve on their embedded Redis, pinned to one core, with the same load right after one another.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.harness import servers
from bench.harness.load import Target, chat_at, configure
from bench.harness.scenarios import SCENARIOS

#: Scenario → the number that counts, and whether less of it is better.
NUMBERS = {
    "S1 c=32": ("cpu_us_per_request", "CPU µs per whole answer"),
    "S2 c=64": ("cpu_us_per_token", "CPU µs per token, 64 paced streams"),
    "S2 burst": ("cpu_us_per_token", "CPU µs per token, unpaced"),
    "S3 c=32": ("cpu_us_per_request", "CPU µs per hit"),
    "S4 n=500": ("cpu_us_per_token", "CPU µs per token, 500 readers of one stream"),
}


@dataclass
class Version(servers.Server):
    """A gateway from a checkout of its own."""

    folder: Path = servers.ROOT

    def __post_init__(self) -> None:
        self.env = {**self.env, "PYTHONPATH": str(self.folder)}
        # The module is found by PYTHONPATH, whatever the working folder is.
        self.command = [sys.executable, "-P", "-m", "app.cli", "serve", "--port", str(self.port)]


async def main(before: str, reps: int) -> None:
    wanted = [scenario for scenario in SCENARIOS if scenario.name in NUMBERS]
    seen: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="refrain-bench-") as folder:
        scratch = Path(folder)
        old = scratch / "before"
        subprocess.run(["git", "worktree", "add", "--detach", str(old), before], cwd=servers.ROOT, check=True)
        try:
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(servers.upstream().running(scratch))
                targets = []
                for name, port, home in (("before", 8486, old), ("now", 8487, servers.ROOT)):
                    env = servers.LIMITS | {"OPENAI_BASE_URL": f"{servers.UPSTREAM}/v1"}
                    server = Version(name, [], port, env=env, folder=home)
                    pid = await stack.enter_async_context(server.running(scratch))
                    targets.append(Target(name, chat_at(port), pid))
                for rep in range(reps):
                    for scenario in wanted:
                        for target in targets if rep % 2 else reversed(targets):
                            configure(**scenario.upstream)
                            sample = await scenario.run(target)
                            assert not sample.errors, (scenario.name, target.name, sample.errors)
                            seen[scenario.name, target.name].append(sample.numbers[NUMBERS[scenario.name][0]])
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(old)], cwd=servers.ROOT, check=True)
    print(table(before, reps, seen))


def table(before: str, reps: int, seen: dict[tuple[str, str], list[float]]) -> str:
    lines = [f"| Medians of {reps}, interleaved | {before} | now | now / before |", "|---|---|---|---|"]
    for name, (_, what) in NUMBERS.items():
        old, new = (statistics.median(seen[name, version]) for version in ("before", "now"))
        lines.append(f"| {name}: {what} | {old:.1f} | {new:.1f} | {new / old:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--before", default="dea96b7", help="the commit to compare with")
    parser.add_argument("--reps", type=int, default=5)
    options = parser.parse_args()
    asyncio.run(main(options.before, options.reps))
