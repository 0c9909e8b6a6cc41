"""What is made elsewhere: when it is looked at, who takes it over, and what is left behind."""

from __future__ import annotations

import asyncio

import pytest

from broadcast.outcome import Outcome
from cache.errors import StoreDown
from cache.flights import Led
from cache.views import Ending
from runtime.errors import LeaderLost
from tests.fakes.flights import batch, pulse, view
from tests.fakes.turns import settle
from tests.unit.broadcast.relays import BODY, KEY, RelayScene, joins
from tests.virtual_time import virtual


@virtual
async def test_what_redis_says_when_we_join_is_shown_at_once() -> None:
    """The text so far comes with the reply; no second call for it."""
    scene = RelayScene()
    broadcast = scene.broadcast()
    broadcast.remote = True
    mirror = scene.relay.mirror(broadcast, view(batch(1, "a"), events=1), BODY)
    assert len(broadcast.log) == 1
    assert (mirror.maker, mirror.body) == ("maker", BODY)
    assert scene.relay.mirrors == {KEY: mirror}
    await settle()
    assert scene.flights.calls == []


@virtual
async def test_who_follows_a_key_leads_it_no_more() -> None:
    """It was overruled before it noticed."""
    scene = RelayScene()
    leading = scene.leads()
    scene.follows()
    assert leading.detached
    assert scene.relay.leads == {}


@virtual
async def test_a_question_is_lent_where_there_is_none() -> None:
    """So this process can take over what it could only follow; the one that is known stays."""
    scene = RelayScene()
    mirror = scene.follows()
    scene.relay.lend(mirror.broadcast, BODY)
    assert mirror.body == BODY
    scene.relay.lend(mirror.broadcast, {"q": 2})
    assert mirror.body == BODY
    scene.relay.lend(scene.broadcast("led"), BODY)


@pytest.mark.parametrize("kind", ["D", "R"])
def test_a_hint_pulls_what_it_is_about(kind: str) -> None:
    """New text or a restart; each hint is counted, since a beat asks whether hints still arrive."""

    @virtual
    async def pulls() -> None:
        scene = RelayScene()
        scene.follows()
        scene.follows("other")
        scene.link.hear(kind, f"{KEY}|5")
        scene.link.hear(kind, "unknown|5")
        await settle()
        assert [call[0] for call in scene.flights.named("pull")] == [KEY]
        assert scene.relay.hints == 2

    pulls()


@virtual
async def test_hints_that_arrive_keep_the_inbox() -> None:
    """Progress that a beat finds while hints come is no sign of a lost subscription."""
    scene = RelayScene()
    scene.follows()
    for _ in range(3):
        scene.link.hear("D", "unknown|5")
        scene.flights.replies["beat"] = [[pulse(events=9)]]
        await scene.relay.beater.beat()
        assert scene.relay.hints == 0
    assert scene.link.renewed == 0


@virtual
async def test_after_a_return_of_redis_all_is_looked_at() -> None:
    """Hints were lost meanwhile, and the beat says at once what is led and followed here."""
    scene = RelayScene()
    scene.follows()
    beating = asyncio.get_running_loop().create_task(scene.relay.beater.run())
    await settle()
    beats = scene.processes.beats
    scene.link.rise()
    await settle()
    assert scene.flights.named("pull") == [(KEY, 5, 0)]
    assert scene.processes.beats == beats + 1
    beating.cancel()


@virtual
async def test_the_death_of_a_process_is_that_of_what_it_made_and_of_nothing_else() -> None:
    """Its lease is not waited for; what another makes goes on."""
    scene = RelayScene()
    ours = scene.follows(body=BODY)
    other = scene.follows("other", body=BODY)
    other.maker = "another"
    over = scene.follows("over", body=BODY, joined=False)
    over.broadcast.fail(LeaderLost())
    scene.flights.replies["take_over"] = [Led(9)]
    scene.processes.die("maker")
    assert (ours.taking_over, other.taking_over, over.taking_over) == (True, False, False)
    await asyncio.sleep(1)
    ((key, epoch, _, dead, _),) = scene.flights.named("take_over")
    assert (key, epoch, dead) == (KEY, 5, "maker")
    assert scene.manager.taken == [(ours.broadcast, 9, BODY)]


@virtual
async def test_what_is_taken_over_is_led_from_then_on(caplog: pytest.LogCaptureFixture) -> None:
    """Its mirror is gone, whoever followed with us is told what we have, and the operator what was lost."""
    scene = RelayScene()
    mirror = scene.follows(body=BODY)
    mirror.saw(view(batch(1, "a", "b"), events=2))
    scene.relay.lead_instead(mirror, 9)
    (entry,) = caplog.records
    assert (entry.levelname, vars(entry)["epoch"], vars(entry)["events_void"]) == ("WARNING", 9, 2)
    assert scene.relay.mirrors == {}
    leading = scene.relay.leads[KEY]
    assert (leading.broadcast, leading.epoch, leading.registered) == (mirror.broadcast, 9, True)
    assert not leading.private
    await settle()
    assert [call[:2] for call in scene.flights.named("append")] == [(KEY, 9)]


@virtual
async def test_a_lead_that_nobody_needs_any_more_is_given_back() -> None:
    """It ended while Redis answered, or nobody here knows the question: another may lead at once."""
    for ended in (True, False):
        scene = RelayScene()
        mirror = scene.follows(body=BODY if ended else None)
        if ended:
            mirror.broadcast.fail(LeaderLost())
        scene.relay.lead_instead(mirror, 9)
        await settle()
        assert scene.flights.named("abdicate") == [(KEY, 9)]
        assert scene.relay.leads == {}
        assert scene.manager.taken == []


@virtual
async def test_one_takeover_at_a_time() -> None:
    """However often its leader is found gone; and not of what has ended."""
    scene = RelayScene()
    mirror = scene.follows(body=BODY)
    scene.flights.replies["take_over"] = [StoreDown("away")]
    for _ in range(3):
        scene.relay.leader_gone(mirror)
        scene.relay.still_wanted(mirror)
    await asyncio.sleep(1)
    assert len(scene.flights.named("take_over")) == 1
    assert scene.flights.named("join") == []
    assert not mirror.taking_over
    mirror.broadcast.fail(LeaderLost())
    scene.relay.leader_gone(mirror)
    assert not mirror.taking_over


@virtual
async def test_what_is_still_wanted_here_is_led_anew() -> None:
    """It ended for want of interest before we were heard: one claim, and it is made here."""
    scene = RelayScene()
    mirror = scene.follows(body=BODY)
    scene.flights.replies["join"] = [Led(9)]
    mirror.saw(view(Ending("cancelled", b"{}"), state="cancelled"))
    scene.relay.still_wanted(mirror)
    await settle()
    assert len(scene.flights.named("join")) == 1
    assert scene.manager.taken == [(mirror.broadcast, 9, BODY)]


@virtual
async def test_a_mirror_that_ends_leaves_no_stake() -> None:
    """Else its maker would go on for nobody; that the last one has cancelled is said with it."""
    for dismissed in (True, False):
        scene = RelayScene()
        mirror = scene.follows()
        mirror.broadcast.dismissed = dismissed
        scene.relay.ended(mirror.broadcast, Outcome.CANCELLED, None)
        assert scene.relay.mirrors == {}
        await settle()
        assert scene.flights.calls == [("stake", KEY, "", {"dismissed": dismissed})]


@virtual
async def test_the_end_of_an_older_broadcast_leaves_the_mirror_alone() -> None:
    """A key may be followed again by the time that what was there ends."""
    scene = RelayScene()
    old = scene.leads()
    mirror = scene.follows()
    await settle()
    before = len(scene.flights.calls)
    scene.relay.ended(old.broadcast, Outcome.CANCELLED, None)
    await settle()
    assert scene.relay.mirrors == {KEY: mirror}
    assert len(scene.flights.calls) == before


@virtual
async def test_who_comes_is_told_to_the_maker() -> None:
    """It must not end what somebody listens to here; of what is not followed there is nothing to tell."""
    scene = RelayScene()
    mirror = scene.follows(joined=False)
    joins(mirror.broadcast)
    scene.relay.attended(mirror.broadcast)
    scene.relay.attended(scene.broadcast("not followed"))
    await settle()
    assert [call[:2] for call in scene.flights.named("stake")] == [(KEY, "fi+")]


@virtual
async def test_who_lives_is_asked_of_redis_and_who_is_dead_is_known_here() -> None:
    """The latter is looked up for each view and each beat, so it costs no call."""
    scene = RelayScene()
    scene.processes.dead.add("gone")
    assert (scene.relay.is_dead("gone"), scene.relay.is_dead("here")) == (True, False)
    assert await scene.relay.lives("here") is True
    assert await scene.relay.lives("gone") is False
    with pytest.raises(StoreDown):
        await scene.relay.lives("unknown")
