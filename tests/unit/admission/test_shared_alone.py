"""A shared stage while nobody counts for all: its share of the capacity, and what it tells afterwards."""

from __future__ import annotations

import asyncio

import pytest

from tests.fakes.leases import BEAT_S, Guest, granted, hall
from tests.virtual_time import virtual


@pytest.mark.parametrize(("capacity", "processes", "share"), [(6, 3, 2), (7, 3, 2), (2, 3, 1), (5, 1, 5)])
def test_a_process_alone_lets_in_its_share(capacity: int, processes: int, share: int) -> None:
    """Rounded down, and at least one, so that nobody stands still; the next when one has left."""

    @virtual
    async def alone() -> None:
        async with hall(capacity, processes) as house:
            house.leases[0].turn(up=False)
            admissions = [house.stages[0].admit(Guest(number)) for number in range(share + 2)]
            assert [one.permit is not None for one in admissions] == [True] * share + [False] * 2
            assert admissions[share].position == 1
            admissions[0].withdraw()
            assert admissions[share].permit is not None
            for one in admissions:
                one.withdraw()
            house.leases[0].turn(up=True)
            await house.rest()

    alone()


@virtual
async def test_who_waits_when_the_link_breaks_is_let_in_at_once() -> None:
    """Not after a timeout: the stage hears of it, and grants its share in its own order."""
    async with hall(4, 2) as house:
        others = [house.stages[1].admit(Guest()) for _ in range(4)]
        await granted(*others)
        second, first = house.stages[0].admit(Guest(2.0)), house.stages[0].admit(Guest(1.0))
        third = house.stages[0].admit(Guest(3.0))
        await asyncio.sleep(2 * BEAT_S)
        house.leases[0].turn(up=False)
        assert [one.permit is not None for one in (first, second, third)] == [True, True, False]
        for one in (*others, first, second, third):
            one.withdraw()
        house.leases[0].turn(up=True)
        await house.rest()


@virtual
async def test_what_is_held_is_told_when_the_link_is_back() -> None:
    """It may exceed the capacity: nobody else is let in until it is less, and the restart is gradual."""
    async with hall(1, 2) as house:
        theirs = house.stages[1].admit(Guest())
        await granted(theirs)
        house.leases[0].turn(up=False)
        mine = house.stages[0].admit(Guest())
        assert mine.permit is not None
        house.leases[0].turn(up=True)
        await asyncio.sleep(0.1)
        assert len(house.bank.holders) == 2
        assert house.leases[0].synced[-1][3], "it did not say that it was away"
        waiting = house.stages[1].admit(Guest())
        theirs.withdraw()
        await asyncio.sleep(2 * BEAT_S)
        assert waiting.permit is None
        mine.withdraw()
        await granted(waiting)
        waiting.withdraw()
        await house.rest()


@virtual
async def test_a_release_that_was_not_heard_is_told_again() -> None:
    """Row 99: it left while nobody answered; its slot comes back with the next beat, not with its lease."""
    async with hall(1, 2) as house:
        mine = house.stages[0].admit(Guest())
        await granted(mine)
        waiting = house.stages[1].admit(Guest())
        house.leases[0].fails = 2
        mine.withdraw()
        await granted(waiting)
        assert house.stages[0].stats().released == 1
        waiting.withdraw()
        await house.rest()


@virtual
async def test_an_admission_whose_reply_was_lost_is_granted_once() -> None:
    """The pool has let it in, and the stage was not told: asked again it is the same permit."""
    async with hall(2) as house:
        house.leases[0].deaf = True
        house.leases[0].loses_reply = 1
        admission = house.stages[0].admit(Guest())
        await granted(admission)
        assert (house.stages[0].stats().admitted, len(house.bank.holders)) == (1, 1)
        admission.withdraw()
        await house.rest()


@virtual
async def test_a_pause_is_told_to_all_and_fails_quietly() -> None:
    """A 429 stops every process; with nobody to tell, this one pauses by itself."""
    async with hall(3) as house:
        stage = house.stages[0]
        stage.pause(5.0)
        await asyncio.sleep(0.1)
        assert house.bank.pauses == [5.0]
        house.leases[0].turn(up=False)
        stage.pause(20.0)
        admission = stage.admit(Guest())
        await asyncio.sleep(19.0)
        assert house.bank.pauses == [5.0]
        assert admission.permit is None
        await asyncio.sleep(1.5)
        assert admission.permit is not None
        admission.withdraw()
        house.leases[0].turn(up=True)
        await house.rest()


@virtual
async def test_the_queue_of_the_others_is_part_of_a_prediction() -> None:
    """Who asks here waits for those who asked elsewhere as well."""
    async with hall(1, 2) as house:
        for _ in range(2):
            visit = house.stages[0].admit(Guest())
            await granted(visit)
            await asyncio.sleep(10.0)
            visit.withdraw()
            await asyncio.sleep(BEAT_S)
        holder = house.stages[0].admit(Guest())
        await granted(holder)
        alone = house.stages[0].predicted_wait()
        crowd = [house.stages[1].admit(Guest()) for _ in range(3)]
        await asyncio.sleep(3 * BEAT_S)
        assert house.stages[0].predicted_wait() > alone + 25.0
        for one in (*crowd, holder):
            one.withdraw()
        await house.rest()


@virtual
async def test_the_books_balance_at_every_moment() -> None:
    """Row 99: admitted is released plus held, whatever the link does meanwhile."""
    async with hall(3, 2) as house:
        open_ones = []
        for number in range(40):
            stage = house.stages[number % 2]
            open_ones.append(stage.admit(Guest(number)))
            if number % 3 == 0:
                open_ones.pop(0).withdraw()
            if number % 7 == 0:
                house.leases[0].turn(up=not house.leases[0].up)
            await asyncio.sleep(0.3)
            for each in house.stages:
                stats = each.stats()
                assert stats.admitted == stats.released + stats.in_use
        for one in open_ones:
            one.withdraw()
            one.withdraw()
        house.leases[0].turn(up=True)
        await house.rest()
