"""The edges of a stage: what is told of a place, when it is full, and a grant that meets a cancel."""

from __future__ import annotations

import asyncio

from admission import Stage
from tests.fakes.invariants import assert_free
from tests.fakes.leases import Guest
from tests.fakes.turns import settle
from tests.virtual_time import virtual


@virtual
async def test_a_place_as_it_is_told_only_falls() -> None:
    """Row 62: whoever overtakes, nobody is told a larger number than before; none is told as none."""
    stage = Stage("s", 1)
    admission = stage.admit(Guest())
    assert [admission.told(place) for place in (5, 7, 3, 0, 4, 1)] == [5, 5, 3, 0, 3, 1]
    admission.withdraw()


@virtual
async def test_full_is_when_the_next_one_would_be_refused() -> None:
    """Neither a crowded room with a permit free nor a room with a place left is full."""
    stage = Stage("s", 1, max_waiting=1)
    assert not stage.full
    held = [stage.admit(Guest())]
    assert not stage.full
    held.append(stage.admit(Guest()))
    assert stage.full

    roomless = Stage("s", 1, max_waiting=0)
    assert not roomless.full
    held.append(roomless.admit(Guest()))
    assert roomless.full

    boundless = Stage("s", 1)
    held += [boundless.admit(Guest()) for _ in range(3)]
    assert not boundless.full
    assert (stage.load(), boundless.load()) == (1, 1)
    for one in reversed(held):
        one.withdraw()


@virtual
async def test_the_oldest_wait_is_that_of_the_oldest() -> None:
    """Of three who came one after the other, the first; whoever is before it in order."""
    stage = Stage("s", 1)
    held = [stage.admit(Guest())]
    for order in (2, 1, 0):
        held.append(stage.admit(Guest(order)))
        await asyncio.sleep(2)
    assert stage.stats().oldest_wait_s == 6
    for one in reversed(held):
        one.withdraw()


@virtual
async def test_a_grant_for_one_who_was_cancelled_in_the_same_turn_goes_on() -> None:
    """The cancel came first and has not been felt yet: giving it the permit must not break the giver."""
    stage = Stage("s", 1)
    holder = stage.admit(Guest())

    async def visit() -> None:
        async with stage.admit(Guest()):
            raise AssertionError("it was cancelled before")

    async with asyncio.TaskGroup() as group:
        visiting = group.create_task(visit())
        await settle()
        following = stage.admit(Guest())
        visiting.cancel()
        holder.withdraw()
        await settle()
        assert visiting.cancelled()
        assert following.permit is not None
        following.withdraw()
    assert_free(stage)
