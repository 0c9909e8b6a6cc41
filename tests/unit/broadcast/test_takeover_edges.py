"""When a takeover is tried, how long others are waited for, and what a late reply changes: nothing."""

from __future__ import annotations

import asyncio
import random

import pytest

from broadcast.takeover import JITTER_S, PATIENCE_S
from cache.flights import Hit, Led, Refused, Wait
from runtime.errors import LeaderLost, WorkerLost
from tests.fakes.flights import batch, view
from tests.unit.broadcast.test_takeover import Play
from tests.virtual_time import virtual

LEASE_S = 15.0


def now() -> float:
    return asyncio.get_running_loop().time()


@virtual
async def test_not_all_who_follow_try_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each after a moment of its own, any up to the jitter, before Redis is asked."""
    bounds: list[float] = []

    def highest(low: float, high: float) -> float:
        bounds.extend((low, high))
        return high

    monkeypatch.setattr(random, "uniform", highest)
    play = Play()
    play.flights.replies["take_over"] = [Led(9)]
    begun = now()
    await play.takeover.run(play.mirror)
    assert bounds == [0, JITTER_S]
    assert now() - begun == pytest.approx(JITTER_S)


@virtual
async def test_the_guard_takes_as_long_as_redis_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """In milliseconds there, in seconds here."""
    monkeypatch.setattr(random, "uniform", lambda low, high: low)
    play = Play()
    play.flights.replies["take_over"] = [Wait(3000), Led(9)]
    begun = now()
    await play.takeover.run(play.mirror)
    assert now() - begun == pytest.approx(3.0)


@virtual
async def test_what_ends_while_it_waits_is_not_taken_over() -> None:
    """Its last reader has left: no lead is asked for on behalf of nobody."""
    play = Play()
    play.flights.replies["take_over"] = [Wait(2000), Led(9)]
    asyncio.get_running_loop().call_later(1.0, play.broadcast.fail, LeaderLost())
    await play.takeover.run(play.mirror)
    assert len(play.flights.named("take_over")) == 1
    assert play.relay.led == []


@virtual
async def test_what_is_durable_is_taken_over_with_its_question() -> None:
    """The next one to take over needs it too."""
    play = Play()
    play.relay.durable = True
    play.flights.replies["take_over"] = [Led(9)]
    await play.takeover.run(play.mirror)
    assert play.flights.named("take_over")[0][4] == b'{"q":1}'


@virtual
async def test_others_are_waited_for_a_lease_and_a_bit() -> None:
    """They know of the death no sooner than that."""
    play = Play(body=False)
    play.flights.replies["attach"] = [view(interested=1)]
    begun = now()
    await play.takeover.run(play.mirror)
    assert LEASE_S + PATIENCE_S <= now() - begun <= LEASE_S + PATIENCE_S + 0.1
    assert play.error == WorkerLost.code
    assert [call[1] for call in play.flights.named("attach")] == [play.mirror.broadcast.stake]


@pytest.mark.parametrize("found", [None, view(interested=1, state="failed"), view(interested=0)])
def test_where_there_is_nobody_else_nothing_is_waited_for(found: object) -> None:
    """Forgotten, ended, or nobody interested: no one will take it over."""

    @virtual
    async def lost() -> None:
        play = Play(body=False)
        play.flights.replies["attach"] = [found]
        begun = now()
        await play.takeover.run(play.mirror)
        assert now() == begun
        assert play.error == WorkerLost.code

    lost()


@pytest.mark.parametrize("change", ["ended", "led here", "taken over"])
def test_the_wait_for_others_ends_with_its_reason(change: str) -> None:
    """It is over, is made here, or by another: at once, and no end is made of it."""

    @virtual
    async def stops() -> None:
        play = Play(body=False)
        play.flights.replies["attach"] = [view(interested=1)]

        def changes() -> None:
            if change == "ended":
                play.broadcast.fail(LeaderLost())
            elif change == "led here":
                play.broadcast.remote = False
            else:
                play.mirror.saw(view(epoch=9, owner="other"))

        asyncio.get_running_loop().call_later(1.0, changes)
        begun = now()
        await play.takeover.run(play.mirror)
        assert 0.95 <= now() - begun <= 1.1
        assert play.error == (LeaderLost.code if change == "ended" else None)

    stops()


@pytest.mark.parametrize("found", [Hit(b"v"), Wait(9), Refused("BUSY")])
def test_an_orphan_that_is_told_nothing_new_stays_one(found: object) -> None:
    """The next beat looks again."""

    @virtual
    async def stays() -> None:
        play = Play()
        play.flights.replies["join"] = [found]
        await play.takeover.adopt(play.mirror)
        assert play.broadcast.running
        assert play.relay.led == []
        assert not play.mirror.taking_over

    stays()


@virtual
async def test_an_orphan_whose_text_is_lost_ends_honestly() -> None:
    """Redis has gone back to an older maker: what our readers have seen nobody makes any more."""
    play = Play()
    play.mirror.saw(view(batch(1, "a"), events=1))
    play.flights.replies["join"] = [view(epoch=4, owner="other")]
    await play.takeover.adopt(play.mirror)
    assert play.error == LeaderLost.code
    assert all(0 < timeout_s <= 1 for _, timeout_s in play.flights.named("join"))


@virtual
async def test_an_orphan_whose_maker_is_back_follows_on() -> None:
    """The same epoch is there again: nothing was lost."""
    play = Play()
    play.mirror.saw(None)
    play.flights.replies["join"] = [view(batch(1, "a"), events=1)]
    await play.takeover.adopt(play.mirror)
    assert play.texts == ["a"]
    assert play.mirror.orphan_since is None


@virtual
async def test_an_orphan_does_not_follow_what_is_past_its_time() -> None:
    """Another has led the key meanwhile, and has found what is too old for newcomers: an end."""
    play = Play()
    play.flights.replies["join"] = [Refused("PAST", "9")]
    await play.takeover.adopt(play.mirror)
    assert play.error == LeaderLost.code
    assert play.relay.led == []
