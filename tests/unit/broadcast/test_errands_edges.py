"""A stake that is left while it is asked for again; and a Redis that is away, of which no error is made."""

from __future__ import annotations

import pytest

from cache.errors import StoreDown
from tests.fakes.turns import settle
from tests.unit.broadcast.relays import RelayScene
from tests.unit.broadcast.test_errands import Play
from tests.virtual_time import virtual


@virtual
async def test_what_is_left_while_it_is_asked_for_is_left_after_that() -> None:
    """Else the leaving would overtake the asking, and undo what a newcomer has got; once, by the last."""
    play = Play()
    with play.errands.asking("k"):
        with play.errands.asking("k"):
            play.errands.leave("k")
            play.errands.leave("k")
            await settle()
            assert play.flights.calls == []
        await settle()
        assert play.flights.calls == []
    await settle()
    assert play.flights.named("stake") == [("k", "", {"dismissed": False})]
    with play.errands.asking("k"):
        await settle()
    await settle()
    assert len(play.flights.calls) == 1, "it is left already"
    assert not play.errands._asking, "a key that was asked for takes no memory"


@virtual
async def test_who_follows_after_asking_does_not_leave() -> None:
    """What was left meanwhile was another's; and another key is nobody's business."""
    play = Play()
    with play.errands.asking("k"):
        play.errands.leave("k")
        play.errands.leave("other", dismissed=True)
        await settle()
        play.mirrors.add("k")
    await settle()
    assert play.flights.named("stake") == [("other", "", {"dismissed": True})]


@virtual
async def test_an_asking_that_fails_lets_what_was_left_go() -> None:
    """Redis was away: the next asking must not find itself held up by this one."""
    play = Play()

    async def asks() -> None:
        with play.errands.asking("k"):
            play.errands.leave("k")
            await settle()
            raise StoreDown("away")

    with pytest.raises(StoreDown):
        await asks()
    await settle()
    assert len(play.flights.named("stake")) == 1


@virtual
async def test_a_redis_that_is_away_is_logged_by_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Not of a stake, a lead, a word of ours or a look: its own breaker says so, once."""
    play = Play()
    play.flights.replies["stake"] = [StoreDown("away")]
    play.errands.leave("k")
    scene = RelayScene()
    scene.flights.replies["finish"] = [StoreDown("away")]
    scene.flights.replies["attach"] = [StoreDown("away")]
    leading = scene.leads()
    scene.relay.overruled(leading, None)
    await settle()
    scene.relay.detach(leading)
    again = scene.leads("again-0c")
    again.publish()
    scene.flights.replies["append"] = [StoreDown("away")]
    await settle()
    assert [call[0] for call in scene.flights.calls] == ["attach", "abdicate", "append"]
    assert caplog.records == []
