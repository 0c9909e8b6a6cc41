"""One run of the load generator against one server, as numbers."""

from __future__ import annotations

import asyncio
import http.client
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bench.harness.servers import BENCH, CHAT, LOAD_CORE, UPSTREAM, UPSTREAM_PORT

LIMIT_S: Final = 240.0
#: What the simulator does where a scenario does not say otherwise: answers at once, 100 tokens.
_CALM: Final = {"ttft": "0s", "tps": "0", "tokens": "100", "max-streams": "0", "stamp": "0"}


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked: a name for the tables, an address, and the process whose CPU and memory count."""

    name: str
    url: str
    pid: int | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """Numbers by name, nested ones as `latency.p50_ms`. `errors` counts what went wrong, by its kind."""

    numbers: dict[str, float] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)


def configure(**settings: str) -> None:
    """Set the simulated upstream's behaviour and forget its counts."""
    query = "&".join(f"{name}={value}" for name, value in (_CALM | settings).items())
    connection = http.client.HTTPConnection("127.0.0.1", UPSTREAM_PORT, timeout=10)
    try:
        for path in ("/reset", f"/config?{query}"):
            connection.request("GET", path)
            response = connection.getresponse()
            if response.status != 200:
                raise RuntimeError(f"the upstream refused {path}: {response.read()!r}")
            response.read()
    finally:
        connection.close()


async def load(target: Target, mode: str, options: Mapping[str, str]) -> Sample:
    """Run `mode` with the generator's own options, by their names."""
    words = {"mode": mode, "url": target.url, "upstream": UPSTREAM} | dict(options)
    if target.pid is not None:
        words["pid"] = str(target.pid)
    process = await asyncio.create_subprocess_exec(
        *("taskset", "-c", LOAD_CORE, str(BENCH / "bin" / "load")),
        *(f"-{name}={value}" for name, value in words.items()),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(LIMIT_S):
            out, complaint = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        return Sample(errors={complaint.decode(errors="replace").strip()[-200:]: 1})
    result: dict[str, Any] = json.loads(out)
    return Sample(_flat(result), {kind: int(count) for kind, count in result["errors"].items()})


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    found: dict[str, float] = {}
    for name, item in value.items():
        if isinstance(item, Mapping):
            found |= _flat(item, f"{prefix}{name}.")
        elif isinstance(item, int | float):
            found[prefix + name] = float(item)
    return found


def median(samples: Sequence[Sample]) -> Sample:
    """Of each number over the repetitions; errors are added up, so that none is lost."""
    names = {name for sample in samples for name in sample.numbers}
    numbers = {
        name: statistics.median([s.numbers[name] for s in samples if name in s.numbers]) for name in names
    }
    errors: dict[str, int] = {}
    for sample in samples:
        for kind, count in sample.errors.items():
            errors[kind] = errors.get(kind, 0) + count
    return Sample(numbers, errors)


def chat_at(port: int) -> str:
    return f"http://127.0.0.1:{port}{CHAT}"
