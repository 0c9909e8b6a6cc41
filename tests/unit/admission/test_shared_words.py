"""Word for word what a shared stage tells, when, and what it makes of the replies."""

from __future__ import annotations

import asyncio

import pytest

from admission import Admission
from tests.fakes.leases import BEAT_S, Guest
from tests.unit.admission.played import TRIP_S, played
from tests.virtual_time import virtual


async def a_moment() -> None:
    """Long enough for a round trip, and no beat."""
    await asyncio.sleep(3 * TRIP_S)


def gone(*admissions: Admission) -> None:
    for one in admissions:
        one.withdraw()


@virtual
async def test_between_beats_only_what_is_new_is_told() -> None:
    """And at a beat everything: who waits, who has moved, who is inside."""
    async with played() as (stage, leases):
        guest = Guest()
        first = stage.admit(guest)
        await a_moment()
        second = stage.admit(Guest())
        await a_moment()
        guest.order = -5
        first.reorder()
        await a_moment()
        third = stage.admit(Guest())
        await a_moment()
        assert [one.waiting for one in leases.told] == [
            [(0, False)], [(1, False)], [(0, True)], [(2, False)],
        ]  # fmt: skip
        leases.grant(1)
        await asyncio.sleep(BEAT_S)
        assert leases.told[-1].held == [1]
        assert leases.told[-1].waiting == [(0, False), (2, False)]
        assert not any(one.restart for one in leases.told)
        gone(first, second, third)


@virtual
async def test_an_order_is_told_in_milliseconds_from_now() -> None:
    """No two processes share a clock; one without end is as far as can be said."""
    async with played() as (stage, leases):
        now = asyncio.get_running_loop().time()
        ones = [stage.admit(Guest(now + after)) for after in (-1.5, 30.0, float("inf"), float("-inf"))]
        await a_moment()
        told = dict(zip((ticket for ticket, _ in leases.told[0].waiting), leases.told[0].orders, strict=True))
        assert told == {0: -1500, 1: 30_000, 2: 10**9, 3: -(10**9)}
        gone(*ones)


@virtual
async def test_who_moves_and_leaves_in_one_turn_is_told_as_gone() -> None:
    """Its new place is nobody's business any more; nor is that of one who was let in."""
    async with played() as (stage, leases):
        leaver, winner = stage.admit(Guest(1)), stage.admit(Guest(2))
        await a_moment()
        assert (leaver.position, winner.position) == (1, 2)
        leaver.reorder()
        leaver.withdraw()
        winner.reorder()
        leases.grant(1)
        winner.reorder()
        await a_moment()
        assert (leases.told[-1].released, leases.told[-1].waiting) == ([0], [])
        assert (leaver.position, winner.position) == (0, 0)
        assert winner.permit is not None
        winner.reorder()
        await asyncio.sleep(2 * BEAT_S)
        gone(winner)


@virtual
async def test_who_was_never_told_of_leaves_without_a_word() -> None:
    """In and out in one turn costs no round trip, also while somebody else waits."""
    async with played() as (stage, leases):
        waiting = stage.admit(Guest())
        await a_moment()
        stage.admit(Guest()).withdraw()
        await asyncio.sleep(BEAT_S / 2)
        assert len(leases.told) == 1
        gone(waiting)


@virtual
async def test_a_failed_telling_is_made_again_in_full_at_the_next_beat() -> None:
    """Not at once, for nobody answers; with the places that had changed, and only those, as changed."""
    async with played() as (stage, leases):
        moved, stays = stage.admit(Guest(1)), stage.admit(Guest(2))
        await a_moment()
        leases.fails = 1
        moved.reorder()
        await a_moment()
        assert leases.told[-1].waiting == [(0, True)]
        told = len(leases.told)
        await asyncio.sleep(BEAT_S / 2)
        assert len(leases.told) == told
        await asyncio.sleep(BEAT_S / 2)
        assert leases.told[told].waiting == [(0, True), (1, False)]
        await asyncio.sleep(BEAT_S + TRIP_S)
        assert leases.told[told + 1].waiting == [(0, False), (1, False)]
        gone(moved, stays)


@virtual
async def test_what_a_failed_telling_said_goes_with_the_next_news() -> None:
    """Who came then must not wait for a beat if the link works again."""
    async with played() as (stage, leases):
        leases.fails = 1
        first = stage.admit(Guest())
        await a_moment()
        second = stage.admit(Guest())
        await a_moment()
        assert [one.waiting for one in leases.told] == [[(0, False)], [(0, False), (1, False)]]
        gone(first, second)


@pytest.mark.parametrize("fails", [0, 2])
def test_that_it_was_away_is_said_until_it_is_heard_and_then_no_more(fails: int) -> None:
    """Slots that were taken alone are counted only after this word."""

    @virtual
    async def said() -> None:
        async with played() as (stage, leases):
            leases.turn(up=False)
            holder = stage.admit(Guest())
            leases.fails = fails
            leases.turn(up=True)
            await asyncio.sleep((fails + 2) * (BEAT_S + TRIP_S))
            assert [one.restart for one in leases.told[: fails + 2]] == [True] * (fails + 1) + [False]
            assert all(one.held == [0] for one in leases.told)
            gone(holder)

    said()


@virtual
async def test_a_link_that_breaks_under_a_telling_and_comes_back_is_a_restart() -> None:
    """Gone and back within one round trip: what was let in meanwhile is not known there."""
    async with played() as (stage, leases):

        def blink() -> None:
            leases.turn(up=False)
            leases.turn(up=True)
            leases.on_call = lambda: None

        leases.on_call, leases.fails = blink, 1
        waiting = stage.admit(Guest())
        await a_moment()
        await asyncio.sleep(BEAT_S + TRIP_S)
        assert [one.restart for one in leases.told[:2]] == [False, True]
        assert waiting.permit is not None
        gone(waiting)


@virtual
async def test_nothing_is_told_while_nobody_is_there() -> None:
    """A beat then looks for how many there are: the share grows with the death of the others."""
    counts = [3]
    async with played(3, counts) as (stage, leases):
        leases.turn(up=False)
        ones = [stage.admit(Guest()) for _ in range(3)]
        assert [one.permit is not None for one in ones] == [True, False, False]
        counts[0] = 1
        await asyncio.sleep(1.1 * BEAT_S)
        assert [one.permit is not None for one in ones] == [True, True, True]
        assert leases.told == []
        gone(*ones)


@virtual
async def test_a_paused_pool_is_asked_again_when_it_said() -> None:
    """Everything is told again then, and it is the beat again as soon as nothing holds it back."""
    async with played() as (stage, leases):
        leases.wait_ms = 200
        began = asyncio.get_running_loop().time()
        ones = [stage.admit(Guest())]
        await asyncio.sleep(0.1)
        ones.append(stage.admit(Guest()))
        await asyncio.sleep(0.05)
        assert [one.waiting for one in leases.told] == [[(0, False)], [(1, False)]]
        await asyncio.sleep(0.2)
        assert leases.told[2].at - began == pytest.approx(0.1 + TRIP_S + 0.2, abs=1e-6)
        assert leases.told[2].waiting == [(0, False), (1, False)]
        leases.wait_ms = 0
        await asyncio.sleep(0.2)
        told = len(leases.told)
        await asyncio.sleep(0.9 * BEAT_S - 0.2)
        assert len(leases.told) == told
        gone(*ones)


@virtual
async def test_a_pause_does_not_hurry_one_who_only_holds() -> None:
    """Nobody here waits to be let in: the beat is enough."""
    async with played() as (stage, leases):
        leases.wait_ms, leases.winners = 10, {0}
        holder = stage.admit(Guest())
        await a_moment()
        assert holder.permit is not None
        told = len(leases.told)
        await asyncio.sleep(BEAT_S / 2)
        assert len(leases.told) == told
        gone(holder)


@virtual
async def test_a_predicted_wait_counts_exactly_those_who_wait_elsewhere() -> None:
    """What the pool says of all who wait, less those of our own."""
    async with played(1) as (stage, leases):
        leases.winners = {0, 1}
        visit = stage.admit(Guest())
        await a_moment()
        await asyncio.sleep(10 - 3 * TRIP_S)
        visit.withdraw()
        holder, waiting = stage.admit(Guest()), stage.admit(Guest())
        leases.others = 3
        await asyncio.sleep(BEAT_S + 2 * TRIP_S)
        mean = stage.stats().mean_hold_s
        assert mean is not None
        assert stage.predicted_wait() == pytest.approx((1 + 3 + 1) * mean)
        assert stage.predicted_wait(0) == pytest.approx(mean)
        gone(waiting, holder)


@virtual
async def test_an_asking_that_crosses_a_reply_is_nobody_elsewhere() -> None:
    """The reply knows of one who waits, and by now there are two: a prediction must not fall by that."""
    async with played(1) as (stage, leases):
        leases.winners = {0, 1}
        visit = stage.admit(Guest())
        await asyncio.sleep(10)
        visit.withdraw()
        ones = [stage.admit(Guest())]
        await a_moment()
        leases.on_call = lambda: ones.append(stage.admit(Guest())) if len(ones) == 2 else None
        ones.append(stage.admit(Guest()))
        await asyncio.sleep(1.5 * TRIP_S)
        mean = stage.stats().mean_hold_s
        assert mean is not None
        assert (len(ones), stage.stats().waiting) == (3, 2)
        assert stage.predicted_wait() == pytest.approx(3 * mean)
        gone(*ones)


@virtual
async def test_a_pause_that_cannot_be_told_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever sees a 429 pauses itself: nothing has gone wrong that anybody should be woken for."""
    async with played() as (stage, leases):
        leases.up = False
        stage.pause(5)
        await asyncio.sleep(1)
        assert stage.predicted_wait() == 4
    assert not caplog.records
