"""What is made here, to other processes: who is told, who may end it, and who it is left to."""

from __future__ import annotations

import asyncio

import pytest

from broadcast.lifecycle import Phase
from broadcast.outcome import Outcome
from cache.errors import StoreDown
from cache.flights import Led, Refused, Wait
from cache.views import Others
from runtime.errors import LeaderLost
from tests.fakes.flights import chunk, view
from tests.fakes.turns import settle
from tests.unit.broadcast.relays import BODY, KEY, RelayScene, joins
from tests.virtual_time import virtual


@virtual
async def test_what_redis_has_not_heard_of_is_told_at_once() -> None:
    """Begun without Redis: until it is known there, a twin elsewhere would be answered once more."""
    scene = RelayScene()
    scene.flights.replies["join"] = [Led(9)]
    leading = scene.leads(registered=False)
    await settle()
    assert scene.called() == ["join"]
    assert (leading.registered, leading.epoch) == (True, 9)
    known = RelayScene()
    known.leads()
    await settle()
    assert known.called() == []


@virtual
async def test_only_what_is_durable_carries_its_question() -> None:
    """Any process is then able to go on; else what a client asked is not left in Redis."""
    for durable, body in ((False, b""), (True, b'{"q":1}')):
        scene = RelayScene(durable=durable)
        scene.flights.replies["join"] = [Led(9)]
        scene.leads(registered=False)
        await asyncio.sleep(1)
        asking = scene.flights.named("join")[0][0]
        assert (asking.body, asking.read_cache) == (body, True)
        stranger = scene.broadcast("another")
        scene.manager.running.clear()
        assert scene.relay.body_of(stranger) == b""


@virtual
async def test_what_is_durable_is_written_as_it_grows() -> None:
    """Row 54: whoever takes over finds it, though nobody followed."""
    scene = RelayScene(durable=True)
    broadcast = scene.leads().broadcast
    joins(broadcast)
    broadcast.append([chunk("a")])
    scene.relay.changed(broadcast)
    await asyncio.sleep(1)
    assert scene.called() == ["append"]


@virtual
async def test_a_change_is_written_only_for_those_who_follow() -> None:
    """A push says that somebody does: from then on each change is theirs, before it costs Redis nothing."""
    scene = RelayScene()
    leading = scene.leads()
    scene.relay.changed(leading.broadcast)
    await settle()
    assert scene.called() == []
    scene.flights.replies["append"] = [Others(1, 1, 1)] * 3
    scene.link.hear("W", f"{KEY}|fi")
    await asyncio.sleep(1)
    scene.relay.changed(leading.broadcast)
    await asyncio.sleep(1)
    assert scene.called() == ["append", "append"]
    assert scene.relay.eta_s(leading.broadcast) == 4.5
    scene.relay.changed(scene.broadcast("nobody's"))
    scene.link.hear("W", "unknown|fi")
    await asyncio.sleep(1)
    assert len(scene.flights.calls) == 2


@pytest.mark.parametrize(("rest", "dismissed"), [("|x", True), ("", False)])
def test_a_last_reader_elsewhere_who_cancelled_is_told_from_one_who_left(rest: str, dismissed: bool) -> None:
    """Row 36: an explicit wish stops what runs on unwatched, a lost connection does not."""

    @virtual
    async def told() -> None:
        scene = RelayScene()
        leading = scene.leads()
        scene.driver.finish_unwatched = True
        leading.broadcast.show(Phase.LIVE)
        scene.link.hear("W", f"{KEY}|{rest}")
        await settle()
        assert leading.broadcast.running is not dismissed

    told()


@virtual
async def test_another_broadcast_under_the_same_key_takes_its_place() -> None:
    """The old one goes on for its own readers: Redis is told that it is not ours any more."""
    scene = RelayScene()
    old = scene.leads()
    waiting = asyncio.get_running_loop().create_task(old.until_told())
    await settle()
    new = scene.leads(epoch=6)
    assert scene.relay.leads == {KEY: new}
    assert (old.detached, new.detached) == (True, False)
    await settle()
    assert scene.flights.calls == [], "the key is led again"
    assert waiting.done()
    assert scene.table.find(KEY) is new.broadcast
    scene.relay.changed(old.broadcast)
    scene.relay.detach(old)
    assert scene.relay.leads == {KEY: new}


@virtual
async def test_who_is_detached_leaves_the_table_and_redis() -> None:
    """Nobody new joins it, another may lead at once; where Redis never knew it there is nothing to say."""
    scene = RelayScene()
    leading = scene.leads()
    scene.relay.detach(leading)
    await settle()
    assert scene.flights.calls == [("abdicate", KEY, 5)]
    assert scene.relay.leads == {}
    assert scene.table.find(KEY) is None
    scene.flights.replies["join"] = [StoreDown("away")]
    scene.relay.detach(scene.leads(registered=False))
    await settle()
    assert "abdicate" not in scene.called()[1:]


@virtual
async def test_what_ends_without_an_answer_is_told_and_forgotten() -> None:
    """Its followers get the same end, with the same error."""
    scene = RelayScene()
    leading = scene.leads()
    scene.relay.ended(leading.broadcast, Outcome.FAILED, LeaderLost())
    await settle()
    (call,) = scene.flights.calls
    assert call[:4] == ("finish", KEY, 5, "failed")
    assert b'"leader_lost"' in call[4]
    assert (call[-1]["value"], call[-1]["ttl_ms"]) == (b"", 0)
    assert scene.relay.leads == {}


@virtual
async def test_an_end_of_what_redis_never_knew_leaves_no_stake_behind() -> None:
    """A claim that was answered too late may have made us follow; nothing is kept, so nothing is said."""
    scene = RelayScene()
    scene.flights.replies["join"] = [StoreDown("away")]
    leading = scene.leads(registered=False)
    await settle()
    scene.relay.ended(leading.broadcast, Outcome.CANCELLED, None)
    assert scene.relay.leads == {}
    await settle()
    assert scene.called() == ["join", "stake"]
    assert scene.flights.named("stake") == [(KEY, "", {"dismissed": False})]


@virtual
async def test_the_end_of_a_broadcast_that_is_not_ours_ends_nothing_of_ours() -> None:
    """The key is led by its successor by now."""
    scene = RelayScene()
    old, new = scene.leads(), scene.leads(epoch=6)
    scene.relay.ended(old.broadcast, Outcome.CANCELLED, None)
    await settle()
    assert scene.flights.calls == []
    assert new.finish is None


@virtual
async def test_an_end_that_redis_does_not_hear_waits_for_the_next_beat() -> None:
    """No task dies of it, and it is not forgotten: the beat tells it again."""
    scene = RelayScene()
    scene.flights.replies["finish"] = [StoreDown("away")]
    leading = scene.leads()
    scene.relay.ended(leading.broadcast, Outcome.FAILED, LeaderLost())
    await settle()
    assert scene.relay.leads == {KEY: leading}
    await scene.relay.beater.beat()
    await settle()
    assert scene.called().count("finish") == 2
    assert scene.relay.leads == {}


@virtual
async def test_what_others_follow_is_theirs_when_this_process_ends() -> None:
    """At once, without a lease to wait for; what nobody elsewhere wants is not offered to anybody."""
    scene = RelayScene()
    followed, alone, ended = scene.leads("followed"), scene.leads("alone"), scene.leads("ended")
    scene.flights.replies["join"] = [StoreDown("away")]
    unknown = scene.leads("unknown", registered=False)
    for one in (followed, ended, unknown):
        one.broadcast.foreign = Others(1, 1, 0)
    alone.broadcast.foreign = Others(1, 0, 0)
    ended.broadcast.fail(LeaderLost())
    await settle()
    scene.relay.abdicate_all()
    assert set(scene.relay.leads) == {"alone", "ended", "unknown"}
    scene.relay.ended(followed.broadcast, Outcome.FAILED, LeaderLost())
    scene.relay.changed(followed.broadcast)
    await settle()
    assert scene.flights.named("abdicate") == [("followed", 5)]
    assert "finish" not in scene.called(), "its end is not its followers'"
    assert followed.detached


@virtual
async def test_a_redis_that_goes_away_frees_who_waits_for_it() -> None:
    """A newcomer's wait for a word of Redis ends: each process trusts itself then."""
    scene = RelayScene()
    leading = scene.leads()
    waiting = asyncio.get_running_loop().create_task(leading.until_told())
    await settle()
    assert not waiting.done()
    scene.link.fall()
    await settle()
    assert waiting.done()
    assert not scene.relay.up
    scene.link.rise()
    assert scene.relay.up


@virtual
async def test_a_claim_that_another_has_won_is_followed(caplog: pytest.LogCaptureFixture) -> None:
    """The relay's own part in it: the mirror is there with the question, and the requests' records move."""
    moved: list[object] = []
    for listener in (None, moved.append):
        scene = RelayScene()
        if listener is not None:
            scene.relay.on_moved = listener
        scene.flights.replies["join"] = [view(epoch=9, owner="other")]
        leading = scene.leads(registered=False)
        joins(leading.broadcast)
        await settle()
        assert leading.detached
        assert caplog.records == []
    assert scene.manager.gone == [(leading.broadcast, 9)]
    mirror = scene.relay.mirrors[KEY]
    assert (mirror.maker, mirror.body) == ("other", BODY)
    assert scene.table.find(KEY) is leading.broadcast
    assert moved == [leading.broadcast]
    assert scene.flights.named("stake")[-1][:2] == (KEY, "fi+")


@virtual
async def test_a_claim_that_waits_for_the_guard_is_forgotten_with_its_broadcast() -> None:
    """Its client has left meanwhile: no claim is made for nobody."""
    scene = RelayScene()
    scene.flights.replies["join"] = [Wait(2000), Led(9)]
    leading = scene.leads(registered=False)
    await settle()
    scene.relay.ended(leading.broadcast, Outcome.CANCELLED, None)
    await asyncio.sleep(3)
    assert scene.called().count("join") == 1
    assert scene.relay.leads == {}


@virtual
async def test_a_fenced_writer_is_detached_only_where_redis_says_so() -> None:
    """Another leads our key: what has text goes on here alone, and nothing more of it is written."""
    scene = RelayScene()
    leading = scene.leads()
    leading.broadcast.append([chunk("a")])
    scene.flights.replies["append"] = [Refused("FENCED", "9")]
    scene.link.hear("W", f"{KEY}|fi")
    await settle()
    assert leading.detached
    assert leading.broadcast.running
    assert scene.relay.leads == {}
