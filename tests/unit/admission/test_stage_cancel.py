"""Cancel at every await of an admission: the permit that is granted and cancelled at once must come back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from admission import Stage
from tests.cancellation import Moment, cancel_at_every_await, raise_at_every_await
from tests.fakes.invariants import assert_free
from tests.virtual_time import virtual


@dataclass
class Guest:
    order: float = 0.0


class Crowd:
    """A stage of one permit that somebody holds for a second, again and again."""

    def __init__(self) -> None:
        self.stage = Stage("s", 1)

    async def hold(self) -> None:
        async with self.stage.admit(Guest()):
            await asyncio.sleep(1)

    async def wait_and_work(self) -> None:
        """Comes second, waits, works with two suspensions, and leaves."""
        loop = asyncio.get_running_loop()
        first = self.stage.admit(Guest())
        loop.call_later(1, first.withdraw)
        async with self.stage.admit(Guest()) as permit:
            assert permit.held
            await asyncio.sleep(0)
            await asyncio.sleep(1)

    async def all_back(self, n: int) -> None:
        await asyncio.sleep(5)
        assert_free(self.stage)
        await self.hold()


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("moment", ["waiting", "granted"])
def test_a_cancel_loses_no_permit(moment: Moment, again: bool) -> None:
    """Row 76: while waiting, in the very turn of the grant, inside, and twice in a row."""

    @virtual
    async def cancelled_everywhere() -> None:
        crowd = Crowd()
        suspensions = await cancel_at_every_await(
            crowd.wait_and_work, crowd.all_back, moment=moment, again=again
        )
        assert suspensions == 3

    cancelled_everywhere()


@pytest.mark.parametrize("error", [ConnectionError, TimeoutError])
def test_an_error_loses_no_permit(error: Callable[[], Exception]) -> None:
    """An error takes the same way out as a cancellation."""

    @virtual
    async def failing_everywhere() -> None:
        crowd = Crowd()
        assert await raise_at_every_await(crowd.wait_and_work, crowd.all_back, error) == 3

    failing_everywhere()


@virtual
async def test_a_timeout_around_the_wait_leaves_the_queue() -> None:
    """`asyncio.timeout` around an admission: the place is free, and the permit goes to the next."""
    stage = Stage("s", 1)
    holder = stage.admit(Guest())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1), stage.admit(Guest()):
            pytest.fail("there is no permit")
    assert stage.stats().waiting == 0
    holder.withdraw()
    assert_free(stage)


@virtual
async def test_a_cancelled_waiter_consumes_no_permit_later() -> None:
    """The permit that comes free afterwards goes to whoever still waits."""
    crowd = Crowd()
    async with asyncio.TaskGroup() as group:
        holder = crowd.stage.admit(Guest())
        leaver = group.create_task(crowd.hold())
        stayer = group.create_task(crowd.hold())
        await asyncio.sleep(0)
        leaver.cancel()
        await asyncio.sleep(0)
        assert crowd.stage.stats().waiting == 1
        holder.withdraw()
        await stayer
    assert crowd.stage.stats().admitted == 2
    assert_free(crowd.stage)
