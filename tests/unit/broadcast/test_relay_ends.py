"""The two ends that wait for Redis: of what nobody here wants any more, and of an answer to be kept."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broadcast import keeping
from broadcast.leading import Leading
from broadcast.outcome import Outcome
from cache.errors import StoreDown
from cache.flights import Refused
from cache.views import Others
from tests.fakes.flights import chunk
from tests.fakes.turns import settle, turns
from tests.unit.broadcast.relays import KEY, RelayScene, unregistered
from tests.virtual_time import virtual


def may_abandon(scene: RelayScene, leading: Leading, *, expired: bool = False) -> bool:
    return scene.relay.may_abandon(leading.broadcast, expired=expired)


# -- of what nobody wants ---------------------------------------------------------------------
@pytest.mark.parametrize(
    ("expired", "how", "outcome"),
    [(False, "cancelled", Outcome.CANCELLED), (True, "expired", Outcome.EXPIRED)],
)
def test_an_end_for_want_of_interest_is_asked_for_once(expired: bool, how: str, outcome: Outcome) -> None:
    """Row 35: nobody here, and nobody elsewhere, says Redis in the same step in which it ends there."""

    @virtual
    async def asked() -> None:
        scene = RelayScene()
        leading = scene.leads()
        for _ in range(3):
            assert may_abandon(scene, leading, expired=expired) is False
        assert not leading.settled, "a newcomer waits for the answer"
        await settle()
        ((key, epoch, said, payload, timeout_s),) = scene.flights.named("idle")
        assert (key, epoch, said, payload) == (KEY, 5, how, b"{}")
        assert leading.broadcast.end is not None
        assert leading.broadcast.end.outcome is outcome
        assert leading.settled
        assert 0 < timeout_s < 0.25, "the model's slot is free again, whatever Redis does"

    asked()


@virtual
async def test_what_somebody_elsewhere_wants_goes_on() -> None:
    """And is published for them; whoever waited to join it here may."""
    scene = RelayScene()
    scene.flights.replies["idle"] = [Others(1, 1, 1)]
    scene.flights.replies["append"] = [Others(1, 1, 0)]
    leading = scene.leads()
    may_abandon(scene, leading)
    waiting = asyncio.get_running_loop().create_task(leading.until_told())
    await asyncio.sleep(1)
    assert leading.broadcast.running
    assert leading.broadcast.foreign == Others(1, 1, 0)
    assert scene.called() == ["idle", "append"]
    assert waiting.done()
    assert leading.settled


@virtual
async def test_a_redis_that_does_not_answer_keeps_nothing_alive() -> None:
    """Who leaves last must free the model's slot, whatever Redis does."""
    scene = RelayScene()
    scene.flights.replies["idle"] = [StoreDown("away")]
    leading = scene.leads()
    may_abandon(scene, leading)
    waiting = asyncio.get_running_loop().create_task(leading.until_told())
    await settle()
    assert not leading.broadcast.running
    assert scene.called() == ["idle"], "and nobody is told what Redis would not hear"
    assert waiting.done()


@virtual
async def test_without_redis_it_ends_at_once() -> None:
    """As it does where Redis has never heard of it, and where another leads by now."""
    scene = RelayScene()
    leading = scene.leads()
    scene.link.fall()
    assert may_abandon(scene, leading) is True
    scene.link.rise()
    assert may_abandon(scene, leading) is False
    leading.detached = True
    assert may_abandon(scene, leading) is True
    assert scene.relay.may_abandon(scene.broadcast("nobody's"), expired=False) is True
    scene.flights.replies["join"] = [StoreDown("away")]
    unknown = scene.leads("unknown", registered=False)
    assert may_abandon(scene, unknown) is True
    await settle()


@virtual
async def test_after_a_loss_of_memory_nobodys_interest_is_believed_for_a_lease() -> None:
    """Those who follow have not all said so again; the beat after that judges anew."""
    scene = RelayScene()
    leading = scene.leads()
    leading.forgotten()
    assert may_abandon(scene, leading) is False
    await settle()
    assert may_abandon(scene, leading) is False
    assert scene.flights.named("idle") == []
    await asyncio.sleep(scene.flights.lease_ms / 1000)
    assert may_abandon(scene, leading) is False
    await settle()
    assert len(scene.flights.named("idle")) == 1


# -- of an answer that is kept ----------------------------------------------------------------
async def answered(scene: RelayScene, leading: Leading, ttl_s: float | None = None) -> Any:
    """A task that waits for its answer to be stored; what needs no timer has been done."""
    leading.broadcast.append([chunk("text")])
    leading.broadcast.conclude(Outcome.COMPLETED, None)
    storing = asyncio.get_running_loop().create_task(scene.relay.sealed(leading.broadcast, ttl_s))
    await settle()
    return storing


@virtual
async def test_an_answer_goes_to_redis_with_its_end_and_is_held_once_it_is_there() -> None:
    """Row 12: whoever was overruled meanwhile must not serve it to anybody new."""
    scene = RelayScene()
    leading = scene.leads()
    storing = await answered(scene, leading, 7.5)
    assert await storing is True
    (call,) = scene.flights.calls
    assert call[:5] == ("finish", KEY, 5, "completed", b"{}")
    assert (call[-1]["value"], call[-1]["ttl_ms"]) == (b"value", 7500)
    assert [(one.key, one.ttl_s) for one in scene.sealing.held] == [(KEY, 7.5)]
    assert scene.relay.leads == {}


@virtual
async def test_an_answer_that_redis_refuses_is_held_by_nobody() -> None:
    """Another leads that key: ours is void for all but its own readers."""
    scene = RelayScene()
    leading = scene.leads()
    scene.flights.replies["finish"] = [Refused("FENCED", "9")]
    storing = await answered(scene, leading)
    assert await storing is False
    assert scene.sealing.held == []
    assert scene.relay.leads == {}


@virtual
async def test_an_answer_is_not_waited_for_while_redis_is_in_trouble() -> None:
    """Its flight is freed as a miss; told again at the next beat, it is there for the other processes."""
    scene = RelayScene()
    leading = scene.leads()
    scene.flights.replies["finish"] = [StoreDown("away")]
    storing = await answered(scene, leading)
    assert await storing is False
    assert scene.relay.leads == {KEY: leading}
    await scene.relay.beater.beat()
    await settle()
    assert [call[-1]["value"] for call in scene.flights.named("finish")] == [b"value", b"value"]
    assert scene.relay.leads == {}


@virtual
async def test_an_answer_without_redis_is_kept_here_alone() -> None:
    """There is none that could know better; Redis is told when it is back."""
    scene = RelayScene()
    leading = scene.leads()
    scene.link.fall()
    scene.flights.replies["finish"] = [StoreDown("away")]
    storing = await answered(scene, leading)
    assert await storing is False
    assert [one.key for one in scene.sealing.held] == [KEY]
    await scene.relay.beater.beat()
    await settle()
    assert len(scene.sealing.held) == 1


@virtual
async def test_what_is_let_go_of_while_it_is_told_is_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether Redis took it is not waited for any more, so it is not held as if it had."""
    monkeypatch.setattr(keeping, "MAX_BACKLOG", 1)
    scene = RelayScene()
    storing = []
    for leading in (scene.leads("a1"), scene.leads("b1")):
        leading.broadcast.conclude(Outcome.COMPLETED, None)
        storing.append(asyncio.get_running_loop().create_task(scene.relay.sealed(leading.broadcast, None)))
    await settle()
    assert [task.result() for task in storing] == [False, True]
    assert [one.key for one in scene.sealing.held] == ["b1"]


@virtual
async def test_what_another_leads_by_now_takes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end is told by nobody here, so it must not push out one that still is to be."""
    monkeypatch.setattr(keeping, "MAX_BACKLOG", 2)
    scene = RelayScene()
    scene.link.fall()
    scene.flights.replies["finish"] = [StoreDown("away") for _ in range(9)]
    for name in ("a1", "b1", "c1"):
        leading = scene.leads(name)
        await answered(scene, leading)
        if name == "b1":
            scene.relay.detach(leading)
    assert list(scene.relay.leads) == ["a1", "c1"]


@virtual
async def test_nobody_need_wait_for_an_answer_to_be_stored(caplog: pytest.LogCaptureFixture) -> None:
    """The process ends while Redis is being told: no error comes of the reply, and it counts."""
    scene = RelayScene()
    leading = scene.leads()
    leading.broadcast.conclude(Outcome.COMPLETED, None)
    storing = asyncio.get_running_loop().create_task(scene.relay.sealed(leading.broadcast, None))
    await turns(1)
    storing.cancel()
    await settle()
    assert [one.key for one in scene.sealing.held] == [KEY]
    assert caplog.records == []


@virtual
async def test_an_answer_that_nobody_knows_of_and_nothing_keeps_is_over() -> None:
    """Redis was away when it began, and it is too large: there is nothing to tell and nobody to wait for."""
    scene = RelayScene()
    leading = await unregistered(scene)
    scene.sealing.value = b""
    storing = await answered(scene, leading)
    assert storing.done()
    assert scene.relay.leads == {}
    assert scene.flights.calls == []


@virtual
async def test_what_cannot_be_written_is_not_held_either() -> None:
    """Its end is told all the same: followers wait for it."""
    scene = RelayScene()
    scene.sealing.value = b""
    storing = await answered(scene, scene.leads())
    assert await storing is True
    assert scene.flights.named("finish")[0][-1]["value"] == b""
    assert scene.sealing.held == []


@virtual
async def test_what_is_not_led_here_is_not_stored() -> None:
    """Detached, or nobody's: what another process leads has its answer from there."""
    scene = RelayScene()
    assert await scene.relay.sealed(scene.broadcast("nobody's"), None) is False
    leading = scene.leads()
    leading.detached = True
    assert await scene.relay.sealed(leading.broadcast, None) is False
    assert scene.flights.calls == []


@pytest.mark.parametrize(("number", "entries"), [(3, 200), (200, 3)])
def test_ends_that_wait_for_redis_are_bounded(
    monkeypatch: pytest.MonkeyPatch, number: int, entries: int
) -> None:
    """By their number and by their size, text and entry together: the oldest is let go, a miss later."""
    monkeypatch.setattr(keeping, "MAX_BACKLOG", number)
    monkeypatch.setattr(keeping, "MAX_BACKLOG_BYTES", entries * (len(chunk("text").raw) + 9))

    @virtual
    async def bounded() -> None:
        scene = RelayScene()
        scene.sealing.value = bytes(9)
        scene.link.fall()
        scene.flights.replies["finish"] = [StoreDown("away") for _ in range(9)]
        leads = [scene.leads(name) for name in ("a1", "b1", "c1", "d1", "e1")]
        for leading in leads[:3]:
            await answered(scene, leading)
        assert list(scene.relay.leads) == ["a1", "b1", "c1", "d1", "e1"]
        for leading in leads[3:]:
            await answered(scene, leading)
        assert list(scene.relay.leads) == ["c1", "d1", "e1"]
        assert [one.over for one in leads] == [True, True, False, False, False]
        scene.flights.replies.clear()
        calls = len(scene.flights.calls)
        await scene.relay.beater.beat()
        await settle()
        told = [call[1] for call in scene.flights.calls[calls:] if call[0] == "finish"]
        assert told == ["c1", "d1", "e1"]
        assert scene.relay.leads == {}
        scene.flights.replies["finish"] = [StoreDown("away") for _ in range(9)]
        for name in ("f1", "a2", "b2"):
            await answered(scene, scene.leads(name))
        assert list(scene.relay.leads) == ["f1", "a2", "b2"], "what was told makes room"

    bounded()
