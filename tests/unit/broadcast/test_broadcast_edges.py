"""A broadcast, field by field: as it begins, as it begins again, as it is shown, and as it ends."""

from __future__ import annotations

import asyncio

import pytest

from admission import Stage
from broadcast.broadcast import Broadcast
from broadcast.lifecycle import Phase, Signal
from broadcast.log import Log
from broadcast.outcome import Outcome
from broadcast.shown import Shown
from broadcast.subscription import Subscription
from cache.views import Others
from runtime.errors import UpstreamTruncated
from tests.fakes.claims import Event, RecordingDriver, Scene, Ticket
from tests.virtual_time import virtual


def now() -> float:
    return asyncio.get_running_loop().time()


@virtual
async def test_one_that_begins_has_nothing_behind_it() -> None:
    """What is shown of it and decided about it rests on these, before anything has happened."""
    broadcast = Scene().broadcast
    assert (broadcast.end, broadcast.admission, broadcast.work, broadcast.setback) == (None,) * 4
    assert (broadcast.step, broadcast.first_delta_at, broadcast.traceparent) == (None, None, "")
    assert (broadcast.stored, broadcast.remote, broadcast.dismissed) == (False, False, False)
    assert (broadcast.ttl_s, broadcast.attempts, broadcast.not_before) == (0, 0, 0)
    assert (broadcast.position, broadcast.place, broadcast.order) == (0, 0, float("inf"))
    assert (broadcast.stake, broadcast.claims, broadcast.readers) == ("f", {}, set())
    assert broadcast.entered_at == {Phase.WAITING: now()} == {Phase.WAITING: broadcast.opened_at}
    assert broadcast.running
    assert not broadcast.live


@virtual
async def test_one_from_the_cache_ended_the_moment_it_was_there() -> None:
    """A hit's record says so: completed, shared, its first text and its end at once."""
    landed = Broadcast.landed("k", Log[Event](1), RecordingDriver())
    assert landed.end is not None
    assert (landed.end.outcome, landed.end.at, landed.end.shared) == (Outcome.COMPLETED, now(), True)
    assert (landed.first_delta_at, landed.entered_at[Phase.SEALED]) == (now(), now())
    assert landed.live
    assert landed.phase is Phase.SEALED


@virtual
async def test_its_place_is_that_of_the_queue_it_waits_in() -> None:
    """In WAITING and QUEUED alone; as told it only falls, and a mirror says what its maker says."""
    stage = Stage("s", 1)
    holder = stage.admit(Ticket("", 0))
    scene = Scene()
    claim = scene.join(attached=True, order=9)
    scene.broadcast.admission = stage.admit(scene.broadcast)
    assert (scene.broadcast.position, scene.broadcast.place) == (1, 1)
    before = stage.admit(Ticket("", 1))
    assert (scene.broadcast.position, scene.broadcast.place) == (2, 1)
    scene.broadcast.signal(Signal.GRANTED)
    assert (scene.broadcast.position, scene.broadcast.place) == (0, 0)
    scene.broadcast.signal(Signal.PREPARED)
    assert scene.at(Phase.QUEUED)
    assert scene.broadcast.position == 2

    scene.broadcast.remote, scene.broadcast.shown = True, Shown(position=7)
    assert (scene.broadcast.position, scene.broadcast.place) == (7, 7)
    scene.broadcast.remote = False
    for one in (scene.broadcast.admission, before, holder):
        one.withdraw()
    claim.cancel("")


@virtual
async def test_what_this_process_wants_of_it_is_said_in_three_letters() -> None:
    """Other processes judge by them whether anybody is left."""
    scene = Scene()
    claim = scene.join()
    assert scene.broadcast.stake == "fi"
    claim.connect()
    assert scene.broadcast.stake == "fi+"
    claim.disconnect()
    assert scene.broadcast.stake == "fi"
    await asyncio.sleep(5.1)
    assert scene.broadcast.stake == "f"


@virtual
async def test_a_claim_that_leaves_twice_leaves_once() -> None:
    """Its counts are taken back once: else the others would be judged as gone."""
    scene = Scene()
    one, other = scene.join(attached=True), scene.join(attached=True)
    scene.go(Phase.LIVE)
    scene.broadcast.leave(one)
    scene.broadcast.leave(one)
    assert scene.broadcast.stake == "fi+"
    scene.broadcast.judge()
    assert scene.at(Phase.LIVE)
    other.cancel("")


@virtual
async def test_who_is_interested_elsewhere_keeps_it_and_who_is_connected_there_starts_it() -> None:
    """Row 93: a follower in another process counts like one here, for as long as it does."""
    scene = Scene()
    claim = scene.join()
    scene.go(Phase.IDLE)
    scene.broadcast.heard(Others(following=1, interested=1, connected=0))
    claim.cancel("")
    assert scene.at(Phase.IDLE)
    scene.broadcast.heard(Others(following=1, interested=1, connected=1))
    assert scene.at(Phase.QUEUED)
    scene.broadcast.heard(Others(following=1, interested=1, connected=0))
    assert scene.at(Phase.IDLE)
    scene.broadcast.heard(Others())
    assert scene.at(Phase.CANCELLED)
    scene.broadcast.abandon(expired=False)
    assert scene.driver.entered_phases[-1] is Phase.CANCELLED


@virtual
async def test_a_wish_to_stop_from_elsewhere_stops_what_would_be_finished() -> None:
    """ABANDON_POLICY=finish is for those who vanish, here and there."""
    for dismissed, then in ((False, Phase.LIVE), (True, Phase.CANCELLED)):
        scene = Scene(finish=True)
        scene.broadcast.heard(Others(following=1, interested=1, connected=1))
        scene.go(Phase.LIVE)
        scene.broadcast.heard(Others(), dismissed=dismissed)
        assert scene.at(then)


@virtual
async def test_the_first_delta_is_the_first_content() -> None:
    """Neither a role nor the second text: what a client has waited for."""
    scene = Scene()
    claim = scene.join(attached=True)
    scene.go(Phase.LIVE)
    await asyncio.sleep(1)
    scene.broadcast.append([Event(b"role", content=False)])
    assert scene.broadcast.first_delta_at is None
    await asyncio.sleep(1)
    scene.say(b"a")
    came = now()
    await asyncio.sleep(1)
    scene.say(b"b")
    assert scene.broadcast.first_delta_at == came
    claim.cancel("")


@pytest.mark.parametrize("known", [0.0, 7.0])
def test_an_answer_knows_how_long_it_took_to_make(known: float) -> None:
    """From its slot to its end; one that was made elsewhere says it itself, and a failed one says nothing."""

    @virtual
    async def made() -> None:
        scene = Scene()
        scene.join(attached=True)
        scene.go(Phase.QUEUED)
        await asyncio.sleep(2)
        scene.broadcast.signal(Signal.SLOT_GRANTED)
        await asyncio.sleep(3)
        scene.broadcast.log.made_s = known
        scene.broadcast.complete()
        assert scene.broadcast.log.made_s == (known or 3)
        assert scene.broadcast.entered_at[Phase.SEALED] == now()

        failed = Scene()
        failed.join(attached=True)
        failed.go(Phase.LIVE)
        await asyncio.sleep(3)
        failed.broadcast.fail(UpstreamTruncated())
        assert failed.broadcast.log.made_s == 0

    made()


@virtual
async def test_a_phase_is_dated_by_its_first_time() -> None:
    """A retry goes back to the queue: waiting began when it began."""
    scene = Scene()
    claim = scene.join(attached=True)
    scene.go(Phase.QUEUED)
    queued_at = now()
    await asyncio.sleep(1)
    scene.broadcast.signal(Signal.SLOT_GRANTED)
    await asyncio.sleep(1)
    scene.broadcast.signal(Signal.RETRY)
    assert scene.broadcast.entered_at[Phase.QUEUED] == queued_at
    claim.cancel("")


@virtual
async def test_one_that_starts_again_is_as_new_and_keeps_its_claims() -> None:
    """Its maker is gone: text, place, tries and setbacks are void, and all who wait are told."""
    scene = Scene()
    claim = scene.join(attached=True)
    scene.go(Phase.LIVE)
    scene.say(b"void")
    broadcast = scene.broadcast
    broadcast.attempts, broadcast.not_before = 2, now() + 9
    broadcast.foreign, broadcast.shown = Others(following=1), Shown(position=3)
    broadcast.show_step("hook")
    reader = Subscription(broadcast.log)
    broadcast.readers.add(reader)
    await reader.wait()

    broadcast.restart(9, remote=True)
    async with asyncio.timeout(1):
        await reader.wait()
    assert reader.voided
    assert (broadcast.remote, broadcast.phase, broadcast.log.epoch) == (True, Phase.WAITING, 9)
    assert (broadcast.log.size, len(broadcast.log), broadcast.log.seq) == (0, 0, 0)
    assert (broadcast.attempts, broadcast.not_before) == (0, 0)
    assert (broadcast.foreign, broadcast.shown) == (Others(), Shown())
    assert (broadcast.first_delta_at, broadcast.step, broadcast.admission) == (None, None, None)
    assert list(broadcast.claims.values()) == [claim]
    claim.cancel("")


@pytest.mark.parametrize("outcome", [Outcome.COMPLETED, Outcome.FAILED, Outcome.CANCELLED, Outcome.EXPIRED])
def test_a_mirror_ends_once_as_its_maker_says(outcome: Outcome) -> None:
    """From any phase, and what is said after that is late."""

    @virtual
    async def ends() -> None:
        scene = Scene()
        scene.broadcast.remote = True
        claim = scene.join(attached=True)
        error = UpstreamTruncated() if outcome is Outcome.FAILED else None
        scene.broadcast.conclude(outcome, error)
        scene.broadcast.conclude(Outcome.FAILED, UpstreamTruncated())
        assert scene.broadcast.end is not None
        assert (scene.broadcast.end.outcome, scene.broadcast.end.error) == (outcome, error)
        assert claim.ended is not None
        assert claim.ended.outcome is outcome
        assert len(scene.ends) == 1

    ends()


@virtual
async def test_whoever_joins_what_has_ended_is_not_kept() -> None:
    """It has its end; an ended broadcast that pointed at its claims would keep all of them in memory."""
    scene = Scene()
    scene.join(attached=True)
    scene.go(Phase.LIVE)
    scene.broadcast.complete()
    late = scene.join(attached=True)
    assert late.ended is scene.broadcast.end
    assert scene.broadcast.claims == {}
    assert scene.broadcast.stake.startswith("f")
