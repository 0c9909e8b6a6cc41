"""The helper finds what it is for: lost permits, swallowed cancels, clean-up that was cut short."""

from __future__ import annotations

import asyncio

import pytest

from tests.cancellation import Moment, cancel_at_every_await, raise_at_every_await
from tests.virtual_time import virtual


class Door:
    """A toy resource: in use between `enter` and `leave`."""

    def __init__(self) -> None:
        self.inside = 0

    async def enter(self) -> None:
        self.inside += 1
        await asyncio.sleep(1)

    def leave(self) -> None:
        self.inside -= 1

    def check(self, _: int) -> None:
        assert self.inside == 0


async def careful(door: Door) -> None:
    try:
        await door.enter()
        await asyncio.sleep(1)
        await asyncio.sleep(0)
    finally:
        door.leave()


async def careless(door: Door) -> None:
    await door.enter()
    door.leave()


@virtual
@pytest.mark.parametrize("moment", ["waiting", "granted"])
async def test_every_suspension_is_visited(moment: Moment) -> None:
    """Three awaits mean three cancelled runs and one that is left alone, each of them checked."""
    door, checked = Door(), []

    def check(n: int) -> None:
        door.check(n)
        checked.append(n)

    assert await cancel_at_every_await(lambda: careful(door), check, moment=moment) == 3
    assert checked == [1, 2, 3, 4]


@virtual
async def test_a_lost_permit_is_found() -> None:
    """Code that leaks when cancelled fails its check."""
    door = Door()
    with pytest.raises(AssertionError):
        await cancel_at_every_await(lambda: careless(door), door.check)


@virtual
async def test_a_grant_that_meets_a_cancel_is_found() -> None:
    """A permit handed over in the very turn of the cancel is lost by code that survives any other cancel."""
    loop = asyncio.get_running_loop()
    free = [1]

    async def take_and_give_back() -> None:
        grant: asyncio.Future[None] = loop.create_future()

        def hand_over() -> None:
            free.clear()
            grant.set_result(None)

        handle = loop.call_later(1, hand_over)
        try:
            await grant
        except asyncio.CancelledError:
            handle.cancel()
            raise
        free.append(1)

    def check(_: int) -> None:
        assert free == [1]

    assert await cancel_at_every_await(take_and_give_back, check) == 1
    with pytest.raises(AssertionError):
        await cancel_at_every_await(take_and_give_back, check, moment="granted")


@virtual
async def test_a_swallowed_cancel_is_found() -> None:
    """Returning normally from a cancelled wait is a fault of its own."""

    async def deaf() -> None:
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            return

    with pytest.raises(AssertionError, match="swallowed"):
        await cancel_at_every_await(deaf, lambda _: None)


@virtual
async def test_a_clean_up_that_fails_is_found() -> None:
    """An error that replaces the cancellation is shown with its cause."""

    async def clumsy() -> None:
        try:
            await asyncio.sleep(1)
        finally:
            raise LookupError("clean-up")

    with pytest.raises(AssertionError) as caught:
        await cancel_at_every_await(clumsy, lambda _: None)
    assert isinstance(caught.value.__cause__, LookupError)


@virtual
async def test_a_second_cancel_hits_the_clean_up() -> None:
    """With `again`, a clean-up that awaits before it has given back is found out."""
    door = Door()

    async def slow_to_leave() -> None:
        try:
            await door.enter()
        finally:
            await asyncio.sleep(1)
            door.leave()

    assert await cancel_at_every_await(slow_to_leave, lambda _: None) == 2
    door.inside = 0
    with pytest.raises(AssertionError):
        await cancel_at_every_await(slow_to_leave, door.check, again=True)


@virtual
async def test_an_error_can_come_out_of_every_await() -> None:
    """Each await raises once; the checks may themselves be asynchronous."""
    door, seen = Door(), []

    async def check(n: int) -> None:
        await asyncio.sleep(1)
        door.check(n)

    async def resilient() -> None:
        try:
            await careful(door)
        except ConnectionResetError as error:
            seen.append(str(error))

    assert await raise_at_every_await(resilient, check, lambda: ConnectionResetError("gone")) == 3
    assert seen == ["gone"] * 3


@virtual
async def test_an_error_of_the_undisturbed_run_is_not_hidden() -> None:
    """A coroutine that fails by itself is broken, whatever the disturbance."""

    async def broken() -> None:
        raise LookupError

    with pytest.raises(AssertionError):
        await raise_at_every_await(broken, lambda _: None, TimeoutError)


@virtual
async def test_inner_timeouts_and_groups_still_work() -> None:
    """The probe changes nothing for what identifies itself by its task."""

    async def nested() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(1))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(5):
                    await asyncio.Event().wait()

    assert await cancel_at_every_await(nested, lambda _: None) >= 1
