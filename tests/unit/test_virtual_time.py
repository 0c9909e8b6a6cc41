"""The virtual loop keeps its promises: time costs nothing, hangs and leaks fail, real I/O is refused."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from runtime.supervisor import Supervisor
from tests.virtual_time import Leaked, NotVirtual, Stuck, run, virtual


@virtual
async def test_an_hour_takes_no_time() -> None:
    """Waiting moves the loop's clock exactly as far as it was told, and the wall clock hardly at all."""
    loop, wall = asyncio.get_running_loop(), time.monotonic()
    before = loop.time()
    await asyncio.sleep(3600)
    assert loop.time() - before == 3600
    assert time.monotonic() - wall < 60


@virtual
async def test_timers_fire_in_the_order_of_their_deadlines() -> None:
    """Jumping never skips a timer or runs one early."""
    seen: list[tuple[str, float]] = []
    loop = asyncio.get_running_loop()
    start = loop.time()
    async with asyncio.TaskGroup() as group:
        for name, delay in (("late", 86400 * 2.5), ("soon", 0.1), ("middle", 60.0)):

            async def wait(name: str = name, delay: float = delay) -> None:
                await asyncio.sleep(delay)
                seen.append((name, round(loop.time() - start, 6)))

            group.create_task(wait())
    assert seen == [("soon", 0.1), ("middle", 60.0), ("late", 216000.0)]


@virtual
async def test_a_timeout_fires_on_virtual_time() -> None:
    """asyncio.timeout ends a wait that nobody will ever end otherwise."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(120):
            await asyncio.Event().wait()


def test_the_result_comes_back() -> None:
    """`run` is a drop-in for asyncio.run."""

    async def answer() -> int:
        await asyncio.sleep(1)
        return 42

    assert run(answer()) == 42


@pytest.mark.parametrize("number", [1, 2])
def test_fixtures_and_parameters_reach_the_test(number: int, tmp_path: object) -> None:
    """The decorator keeps the signature that pytest looks at."""

    @virtual
    async def inner(number: int, tmp_path: object) -> tuple[int, object]:
        return number, tmp_path

    assert inner(number, tmp_path=tmp_path) == (number, tmp_path)


def test_a_deadlock_fails_at_once_and_says_where() -> None:
    """Two tasks that wait for each other are found without waiting, and named."""

    async def wait_for(event: asyncio.Event) -> None:
        await event.wait()

    async def embrace() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(wait_for(asyncio.Event()), name="one")
            group.create_task(wait_for(asyncio.Event()), name="two")

    with pytest.raises(Stuck, match=r"(?s)one at .*:\d+.*two at .*:\d+"):
        run(embrace())


def test_a_ticking_loop_does_not_hide_a_hang() -> None:
    """A heartbeat keeps setting timers; the horizon ends the test all the same."""

    def beat() -> None:
        asyncio.get_running_loop().call_later(10, beat)

    async def stuck() -> None:
        beat()
        await asyncio.Event().wait()

    with pytest.raises(Stuck, match="horizon"):
        run(stuck(), horizon_s=3600)


def test_a_task_left_behind_fails_the_test() -> None:
    """Whoever starts a task also ends it."""

    async def forget() -> None:
        Supervisor().spawn("forgotten", asyncio.sleep(10))

    with pytest.raises(Leaked, match="forgotten"):
        run(forget())


def test_a_task_that_only_has_to_finish_is_no_leak() -> None:
    """What needs nothing but a few turns of the loop gets them."""

    async def nearly_done() -> None:
        Supervisor().spawn("nearly done", asyncio.sleep(0))

    run(nearly_done())


def test_an_error_nobody_saw_fails_the_test() -> None:
    """A callback that raises is reported, although it belongs to no task."""

    def burst() -> None:
        raise LookupError("unseen")

    async def careless() -> None:
        asyncio.get_running_loop().call_soon(burst)
        await asyncio.sleep(1)

    with pytest.raises(Leaked, match="unseen"):
        run(careless())


def test_real_sockets_are_refused() -> None:
    """The clock would run ahead of a real peer, so there must be none."""

    async def connect() -> None:
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            await asyncio.get_running_loop().sock_recv(left, 1)

    with pytest.raises(NotVirtual):
        run(connect())


def test_threads_are_refused() -> None:
    """A thread's work takes real time, which this loop does not have."""

    async def offload() -> None:
        await asyncio.to_thread(int)

    with pytest.raises(NotVirtual):
        run(offload())
