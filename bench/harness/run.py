"""The whole measurement: every server beside the others, repetition by repetition."""

from __future__ import annotations

import contextlib
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from bench.harness import servers
from bench.harness.load import Sample, Target, chat_at, configure, load, median
from bench.harness.scenarios import AIOHTTP, COALESCE, L2, NGINX, NGINX_CACHE, REFRAIN, SCENARIOS, Scenario

#: (scenario, target) → the medians.
Results = dict[tuple[str, str], Sample]

SUBSCRIBERS: Final = 1000
MEMORY: Final = "S6"


async def measure(reps: int, names: Iterable[str], say: Callable[[str], None]) -> Results:
    """Run the scenarios whose names start with one of `names` (none: all), `reps` times each.

    Target by target within a scenario and not server by server: what disturbs the machine for a
    while then disturbs all of them, and the ratios hold.
    """
    wanted = tuple(names) or ("",)
    samples: defaultdict[tuple[str, str], list[Sample]] = defaultdict(list)

    def keep(scenario: str, target: str, sample: Sample) -> None:
        samples[scenario, target].append(sample)
        say(f"{scenario:10} {target:18} {_brief(sample)}")

    with tempfile.TemporaryDirectory(prefix="refrain-bench-") as folder:
        scratch = Path(folder)
        async with servers.upstream().running(scratch), servers.redis(scratch).running(scratch):
            async with contextlib.AsyncExitStack() as stack:
                targets = await _start(stack, scratch)
                for _ in range(reps):
                    for scenario in (s for s in SCENARIOS if s.name.startswith(wanted)):
                        await _scenario(scenario, targets, keep)
            if MEMORY.startswith(wanted):
                await _memory(reps, scratch, keep)
    return {row: median(each) for row, each in samples.items()}


async def _start(stack: contextlib.AsyncExitStack, scratch: Path) -> dict[str, Target]:
    """All servers of the scenarios. Those that are not asked just now cost nothing."""
    targets = {"direct": Target("direct", chat_at(servers.UPSTREAM_PORT))}
    started = {
        REFRAIN: servers.refrain("refrain", 8484, scratch),
        L2: servers.refrain("refrain-l2", 8485, scratch, {"REFRAIN_LOCAL_CACHE_BYTES": "0"}),
        AIOHTTP: servers.uvicorn("relay", "proxy:relay", 8201),
        COALESCE: servers.uvicorn("coalesce", "proxy:coalesce", 8202),
        "uvicorn": servers.uvicorn("hello", "apps:hello", 8301),
        "fastapi": servers.uvicorn("fastapi", "apps:fastapi_model", 8302),
    }
    for name, server in started.items():
        pid = await stack.enter_async_context(server.running(scratch))
        targets[name] = Target(name, chat_at(server.port), pid)
    if (proxy := servers.nginx(scratch)) is not None:
        pid = await stack.enter_async_context(proxy.running(scratch))
        targets[NGINX] = Target(NGINX, chat_at(8101), pid)
        targets[NGINX_CACHE] = Target(NGINX_CACHE, chat_at(8102), pid)
    return targets


async def _scenario(
    scenario: Scenario, targets: dict[str, Target], keep: Callable[[str, str, Sample], None]
) -> None:
    for name in scenario.who:
        if name in targets:
            configure(**scenario.upstream)
            keep(scenario.name, name, await scenario.run(targets[name]))


async def _memory(reps: int, scratch: Path, keep: Callable[[str, str, Sample], None]) -> None:
    """What a subscriber that waits takes of a new process's memory."""
    identical = {"method": "POST", "keys": "same", "extra": '"stream":true'}
    for _ in range(reps):
        for name, server, options in (
            (REFRAIN, servers.refrain("refrain", 8484, scratch), identical),
            (COALESCE, servers.uvicorn("coalesce", "proxy:coalesce", 8202), identical),
            ("asyncio alone", servers.uvicorn("log", "apps:subscribe_log", 8303), {}),
            ("sse-starlette", servers.uvicorn("sse", "apps:subscribe_sse", 8304), {}),
        ):
            async with server.running(scratch) as pid:
                target = Target(
                    name, chat_at(server.port) if options else f"http://127.0.0.1:{server.port}/", pid
                )
                if options:
                    configure()
                    await load(target, "stream", {"c": "8", "n": "100", "d": "20s"})
                    configure(ttft="30s")
                keep(
                    MEMORY, name, await load(target, "idle", {"c": str(SUBSCRIBERS), "hold": "2s"} | options)
                )


def _brief(sample: Sample) -> str:
    names = ("rps", "cpu_us_per_request", "cpu_us_per_token", "latency.p50_ms", "ttft.p50_ms", "wall_s")
    shown = [f"{name}={sample.numbers[name]:.1f}" for name in names if name in sample.numbers]
    return " ".join(shown) + (f"  ERRORS {sample.errors}" if sample.errors else "")
