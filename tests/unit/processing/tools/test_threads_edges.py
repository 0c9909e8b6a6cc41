"""Jobs and leases from within: what a thread does is done here by the test itself, step by step."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from contextvars import ContextVar
from queue import SimpleQueue
from typing import cast

import pytest

from admission import Stage
from processing.tools.slots import Lease, Limits
from processing.tools.threads import Job, Threads
from processing.twins import Company
from tests.fakes.eventually import eventually
from tests.fakes.invariants import assert_free
from tests.fakes.tools import Played
from tests.fakes.turn import FakeTurn
from tests.fakes.turns import settle
from tests.virtual_time import virtual

whose: ContextVar[str] = ContextVar("whose", default="nobody")


@virtual
async def test_a_job_has_the_result_of_its_function() -> None:
    """In the context of whoever began it, and its end is told in the loop, once."""
    ended: list[bool] = []
    token = whose.set("ann")
    job = Job(lambda left: (whose.get(), left.is_set()), lambda: ended.append(True))
    whose.reset(token)
    assert not job.ended.done()
    job.run()
    assert ended == []
    assert await job.result() == ("ann", False)
    assert ended == [True]


@virtual
async def test_a_job_has_the_error_of_its_function() -> None:
    """Whatever it is: also what would end a process."""

    def broken(left: threading.Event) -> None:
        raise SystemExit(3)

    job = Job(broken, lambda: None)
    job.run()
    with pytest.raises(SystemExit):
        await job.result()


@virtual
async def test_a_job_that_nobody_waits_for_is_told_so() -> None:
    """By its event; it ends like any other, and says that it has."""
    left: list[bool] = []
    job = Job(lambda event: left.append(event.is_set()), lambda: None)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(job.result())
        await settle()
        task.cancel()
    assert not job.ended.done()
    job.run()
    await settle()
    assert (left, job.ended.done()) == ([True], True)


@virtual
async def test_a_job_that_ends_twice_is_ended() -> None:
    """Its future may have been cancelled with the loop: telling it again must not be an error."""
    job = Job(lambda left: None, lambda: None)
    job.ended.cancel()
    job.run()
    await settle()
    assert job.ended.cancelled()


@pytest.mark.anyio
async def test_an_idle_thread_serves_one_not_two() -> None:
    """The second of two at once has a thread of its own: in a queue its time would run out unbegun."""
    threads, gate = Threads(), threading.Event()
    await threads.begin(lambda left: None).result()
    assert (threads.started, threads._idle) == (1, 1)

    serving: set[threading.Thread] = set()

    def wait(left: threading.Event) -> None:
        serving.add(threading.current_thread())
        gate.wait(30)

    jobs = [threads.begin(wait) for _ in range(2)]
    assert (threads.started, threads._idle) == (2, 0)
    await eventually(lambda: len(serving) == 2)  # before the gate, else one thread may serve both
    gate.set()
    for job in jobs:
        await job.result()
    assert (threads.started, threads._idle) == (2, 2)
    threads.close()
    assert threads._idle == 0
    assert {thread.name for thread in serving} == {"tool-1", "tool-2"}
    await eventually(lambda: not any(thread.is_alive() for thread in serving))


def test_a_job_whose_loop_is_closed_ends_quietly() -> None:
    """The process stops: there is nobody to tell, and no traceback for anybody."""

    async def begun() -> Job[None]:
        return Job(lambda left: None, lambda: None)

    asyncio.run(begun()).run()


@virtual
async def test_a_thread_serves_until_it_is_told_to_end_and_keeps_nothing_meanwhile() -> None:
    """What a call holds, perhaps megabytes, must not live until the next call comes."""
    threads, order = Threads(), list[str]()
    first: Job[None] | None = Job(lambda left: order.append("first"), lambda: None)
    second: Job[None] = Job(lambda left: order.append("second"), lambda: None)
    gone = weakref.ref(first)

    class Queue:
        def __init__(self) -> None:
            self.left = [None, second]

        def get(self) -> Job[None] | None:
            gc.collect()
            order.append("kept" if gone() is not None and len(self.left) == 2 else "gone")
            return self.left.pop()

    assert first is not None
    threads._work = cast("SimpleQueue[Job[None] | None]", Queue())
    handed = [first]
    del first
    loop_calls: list[object] = []
    handed[0]._loop = cast(asyncio.AbstractEventLoop, _Closed(loop_calls))
    threads._serve(handed.pop())
    assert order == ["first", "gone", "second", "gone"]
    assert len(loop_calls) == 1


class _Closed:
    """A loop that takes what it is handed and keeps none of it."""

    def __init__(self, calls: list[object]) -> None:
        self._calls = calls

    def call_soon_threadsafe(self, callback: object) -> None:
        self._calls.append(True)


def limits(slots: Stage) -> Limits:
    return Limits(Played().sleeper(), slots)


@virtual
async def test_whoever_runs_waits_nowhere() -> None:
    """While it waits its place is shown and moves; then there is none, also if it gave up waiting."""
    slots = Stage("tools", 1)
    mine, company = limits(slots), Company()
    company.enter(FakeTurn(1))
    async with mine.lease(company):
        assert company.admission is None
        assert (mine.slots.stats().in_use, slots.stats().in_use) == (1, 1)
        other = Company()
        other.enter(FakeTurn(2))
        async with asyncio.TaskGroup() as group:
            task = group.create_task(entered(mine, other))
            await settle()
            assert other.admission is not None
            assert other.position == 1
            task.cancel()
        assert other.admission is None
    assert_free(slots)
    assert_free(mine.slots)


async def entered(mine: Limits, company: Company) -> None:
    async with mine.lease(company):
        raise AssertionError("there was no slot for it")


@virtual
async def test_a_lease_is_held_for_a_thread_that_runs_on_and_not_longer() -> None:
    """Slots count what really runs: given back in the order in which they were not asked for."""
    slots = Stage("tools", 3)
    mine, company = limits(slots), Company()
    company.enter(FakeTurn(0))
    job: Job[None] = Job(lambda left: None, lambda: None)
    async with mine.lease(company) as lease:
        assert isinstance(lease, Lease)
        lease.hold_for(job)
    assert (mine.left_threads, mine.slots.stats().in_use, slots.stats().in_use) == (1, 1, 1)
    job.run()
    await settle()
    assert mine.stats().left_threads == 0
    assert_free(slots)
    assert_free(mine.slots)
    async with mine.lease(company) as lease:
        lease.hold_for(job)
    assert mine.left_threads == 0
    assert_free(mine.slots)
