"""What the tools' framework costs and keeps: CPU per call, the peak under a limit, and the loop under
blocking tools.

    python -m bench.tools_cost

Ratios of one run; medians of five. Prints Markdown lines for bench/RESULTS.md.
"""

from __future__ import annotations

import asyncio
import logging
import math
import statistics
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

from processing.tools import Caller, Tool, Toolbox, tool
from processing.tools.asked import Call
from processing.tools.toolbox import At
from runtime import logs
from runtime.supervisor import Supervisor
from tests.fakes.turn import FakeTurn

REPEATS = 5
CALLS = 100
ROUNDS = 20
LIMIT = 10
TOOL_S = 0.2
BLOCKING = 50
ANN = Caller("scope", "acme", "ann")


async def at_once(toolbox: Toolbox, name: str, number: int) -> None:
    calls = [Call(f"c{n}", name, f'{{"n": {n}}}') for n in range(number)]
    results = await toolbox.run(calls, toolbox.for_caller(ANN), ANN, At(FakeTurn()))
    assert [result.text for result in results] == [str(n) for n in range(number)]


def toolbox(*tools: Tool, slots: int = 1000) -> Toolbox:
    return Toolbox(tools, slots=slots, spawn=Supervisor().spawn)


async def cpu_us(function: Callable[..., Any]) -> float:
    """CPU of one call of a tool that does nothing, in microseconds, threads included."""
    box = toolbox(tool(function, name="nothing", cacheable=True, limit=1000))
    await at_once(box, "nothing", CALLS)
    began = time.process_time()
    for _ in range(ROUNDS):
        await at_once(box, "nothing", CALLS)
    return (time.process_time() - began) / (ROUNDS * CALLS) * 1e6


async def under_limit(number: int) -> tuple[int, float]:
    """The peak of `number` calls at limit `LIMIT`, and their time over that of the ideal rounds."""
    inside = peak = 0

    async def work(n: int) -> str:
        """Works."""
        nonlocal inside, peak
        inside += 1
        peak = max(peak, inside)
        await asyncio.sleep(TOOL_S)
        inside -= 1
        return str(n)

    box = toolbox(tool(work, cacheable=True, limit=LIMIT))
    began = time.perf_counter()
    await at_once(box, "work", number)
    return peak, (time.perf_counter() - began) / (math.ceil(number / LIMIT) * TOOL_S)


async def lag_ms(number: int) -> float:
    """The longest turn of the loop, in milliseconds, while so many functions block their threads."""
    gate = threading.Event()

    def block(n: int) -> str:
        """Blocks."""
        gate.wait(10)
        return str(n)

    box = toolbox(tool(block, cacheable=True, limit=BLOCKING))
    longest = 0.0
    async with asyncio.TaskGroup() as group:
        group.create_task(at_once(box, "block", number))
        until = time.perf_counter() + 0.5
        while (began := time.perf_counter()) < until:
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - began - 0.001)
        gate.set()
    return longest * 1000


async def nothing(n: int) -> str:
    """Does nothing."""
    return str(n)


def blocking_nothing(n: int) -> str:
    """Does nothing, in a thread."""
    return str(n)


def median(make: Callable[[], Coroutine[Any, Any, float]]) -> float:
    return statistics.median(asyncio.run(make()) for _ in range(REPEATS))


def main() -> None:
    logging.disable(logging.CRITICAL)
    quiet = median(lambda: cpu_us(nothing))
    thread = median(lambda: cpu_us(blocking_nothing))
    logging.disable(logging.NOTSET)
    logs.configure()
    logging.getLogger().handlers[0].stream = open("/dev/null", "w")  # type: ignore[attr-defined]  # noqa: SIM115
    logged = median(lambda: cpu_us(nothing))
    logging.disable(logging.CRITICAL)
    print(f"| CPU per call of an async tool | {quiet:.0f} us ({logged:.0f} us with its 3 log lines) |")
    print(f"| CPU per call of a blocking tool | {thread:.0f} us |")
    for number in (10, 50, 100):
        runs = [asyncio.run(under_limit(number)) for _ in range(REPEATS)]
        peak, ratio = max(run[0] for run in runs), statistics.median(run[1] for run in runs)
        print(f"| {number} tools at limit {LIMIT} | peak {peak}, {ratio:.3f} of the ideal rounds |")
    lag, idle = median(lambda: lag_ms(BLOCKING)), median(lambda: lag_ms(0))
    print(f"| longest turn of the loop under {BLOCKING} blocking tools | {lag:.1f} ms ({idle:.1f} without) |")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
