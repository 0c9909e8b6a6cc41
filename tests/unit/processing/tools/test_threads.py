"""Blocking functions: they block a thread, never the loop, and a thread that is left keeps its slots."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextvars import ContextVar

import pytest

from processing.tools import Status, ToolFailed, tool
from processing.tools.results import Output
from processing.tools.running import run
from processing.tools.threads import Job, Threads
from tests.fakes.eventually import eventually
from tests.fakes.tools import Bench, call
from tests.fakes.turns import turns

pytestmark = pytest.mark.anyio

#: A gate that nobody opens is a failed test, not a hang.
_PATIENCE_S = 30


class Gate:
    """A blocking tool that waits in its thread until the test opens it."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._lock = threading.Lock()
        self.inside = self.peak = self.begun = 0

    def __call__(self, n: int = 0) -> str:
        """Waits."""
        with self._lock:
            self.begun += 1
            self.inside += 1
            self.peak = max(self.peak, self.inside)
        opened = self._open.wait(_PATIENCE_S)
        with self._lock:
            self.inside -= 1
        if not opened:
            raise AssertionError("nobody opened the gate: the loop was blocked")
        return str(n)

    def open(self) -> None:
        self._open.set()


async def test_fifty_blocking_tools_leave_the_loop_free() -> None:
    """Row 78: while all fifty block, the loop turns; it is the loop that opens their gate."""
    gate = Gate()
    bench = Bench(tool(gate, name="block", cacheable=True, limit=50), slots=50)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(bench.run(*[call("block", n=n) for n in range(50)]))
        await eventually(lambda: gate.inside == 50)
        await turns(1000)
        gate.open()
    assert [result.text for result in task.result()] == [str(n) for n in range(50)]
    bench.assert_at_rest()


async def test_never_more_threads_than_slots() -> None:
    """Row 70 for blocking tools: counted in the threads themselves."""
    gate = Gate()
    bench = Bench(tool(gate, name="block", cacheable=True, limit=3), slots=50)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(bench.run(*[call("block", n=n) for n in range(10)]))
        await eventually(lambda: gate.inside == 3)
        assert (gate.begun, bench.toolbox.stats().tools[0].slots.waiting) == (3, 7)
        gate.open()
    assert (gate.peak, len(task.result())) == (3, 10)
    bench.assert_at_rest()


async def test_a_thread_that_ran_out_of_time_keeps_its_slots_until_it_ends() -> None:
    """The call is answered in time; the limit still counts what really runs."""
    gate = Gate()
    bench = Bench(tool(gate, name="block", cacheable=True, limit=1, timeout_s=0.01), slots=5)
    result = await bench.one("block")
    assert result.status is Status.TIMED_OUT
    stats = bench.toolbox.stats()
    assert (stats.tools[0].left_threads, stats.tools[0].slots.in_use, stats.slots.in_use) == (1, 1, 1)
    async with asyncio.TaskGroup() as group:
        group.create_task(bench.one("block", n=2))
        await turns(100)
        assert gate.begun == 1
        gate.open()
    await eventually(lambda: gate.begun == 2)
    await eventually(lambda: bench.toolbox.stats().slots.in_use == 0)
    assert gate.peak == 1
    bench.assert_at_rest()


async def test_a_cancelled_call_leaves_its_thread_and_ends_at_once() -> None:
    """Nobody waits for a thread that cannot be stopped; its slots are its own until it ends."""
    gate = Gate()
    bench = Bench(tool(gate, name="block", cacheable=True))
    task = bench.supervisor.spawn("test", _ignored(bench))
    await eventually(lambda: gate.inside == 1)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert gate.inside == 1
    assert bench.toolbox.stats().tools[0].left_threads == 1
    gate.open()
    await eventually(lambda: bench.toolbox.stats().slots.in_use == 0)
    bench.assert_at_rest()


async def _ignored(bench: Bench) -> None:
    await bench.one("block")


async def test_a_blocking_generator_is_stopped_between_two_pieces() -> None:
    """What it had put out is kept, its `finally` runs, and the rest is never produced."""
    ended, go_on = threading.Event(), threading.Event()

    def count() -> Iterator[str]:
        """Counts."""
        try:
            yield "one "
            yield "two "
            go_on.wait(_PATIENCE_S)
            yield "three"
            yield "four"
        finally:
            ended.set()

    output, threads, jobs = Output(), Threads(), list[Job[None]]()
    blocking = tool(count, cacheable=True)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(run(blocking, {}, output, threads, jobs.append))
        await eventually(lambda: output.text == "one two ")
        task.cancel()
    go_on.set()
    await jobs[0].ended
    assert ended.is_set()
    assert output.text == "one two three"
    threads.close()


async def test_a_blocking_generator_is_read_to_its_end() -> None:
    """If nobody leaves."""

    def count() -> Iterator[str]:
        """Counts."""
        yield "one "
        yield "two"

    assert (await Bench(tool(count, cacheable=True)).one("count")).content == "one two"


@pytest.mark.parametrize(
    ("error", "content"),
    [
        (ValueError("secret"), "[broken failed (ValueError)]"),
        (ToolFailed("no such city"), "[broken failed: no such city]"),
        (StopIteration(), "[broken failed (RuntimeError)]"),
        (SystemExit(1), "[broken failed (SystemExit)]"),
    ],
)
async def test_a_failure_in_a_thread_is_a_result(error: BaseException, content: str) -> None:
    """Whatever it raises, the process goes on."""

    def broken() -> str:
        """Breaks."""
        raise error

    bench = Bench(tool(broken, cacheable=True))
    assert (await bench.one("broken")).content == content
    bench.assert_at_rest()


variable: ContextVar[str] = ContextVar("variable", default="")


async def test_a_thread_knows_whose_work_it_does() -> None:
    """Every log line of a request carries its id, those of its tools too."""

    def whose() -> str:
        """Tells."""
        return variable.get()

    token = variable.set("req-1")
    try:
        assert (await Bench(tool(whose, cacheable=True)).one("whose")).text == "req-1"
    finally:
        variable.reset(token)


async def test_threads_serve_one_after_the_other() -> None:
    """A new one for each call would cost more than the call."""
    serving: set[threading.Thread] = set()
    bench = Bench(
        tool(lambda: serving.add(threading.current_thread()), name="a", description="A.", cacheable=True)
    )
    for _ in range(5):
        assert (await bench.one("a")).ok
    assert (len(serving), bench.toolbox.stats().threads) == (1, 1)
    bench.toolbox.close()
    bench.toolbox.close()
    await eventually(lambda: not any(thread.is_alive() for thread in serving))


async def test_threads_do_not_keep_the_process_from_stopping() -> None:
    """A function that never returns must not hold up a shutdown."""
    seen: list[bool] = []
    threads = Threads()
    await threads.begin(lambda left: seen.append(threading.current_thread().daemon)).result()
    assert seen == [True]
    threads.close()


def test_a_thread_that_outlives_its_loop_ends_quietly() -> None:
    """The process stops, and what still runs has nobody to tell."""
    go_on, serving = threading.Event(), []

    def work(left: threading.Event) -> None:
        serving.append(threading.current_thread())
        go_on.wait(_PATIENCE_S)

    threads = Threads()

    async def begin() -> None:
        threads.begin(work)
        await eventually(lambda: serving)

    asyncio.run(begin())
    go_on.set()
    threads._work.put(None)
    serving[0].join(_PATIENCE_S)
    assert not serving[0].is_alive()
