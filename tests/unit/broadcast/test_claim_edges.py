"""A claim at its edges: connections counted, readers and ends elsewhere, and when each timer ends."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from broadcast.claim import COUNTED_S, ClaimTimers
from broadcast.lifecycle import Phase, Signal
from broadcast.outcome import End, Outcome
from runtime.errors import SubscribeTimeout, UpstreamTruncated
from tests.fakes.claims import TIMERS, Scene
from tests.virtual_time import virtual


def now() -> float:
    return asyncio.get_running_loop().time()


@virtual
async def test_two_streams_of_one_request_are_one_reader() -> None:
    """It is connected until the last of them has closed, and counted once."""
    scene = Scene()
    claim = scene.join()
    scene.go(Phase.IDLE)
    assert (claim.connections, claim.interested, claim.joined_at) == (0, True, now())
    claim.connect()
    claim.connect()
    assert (claim.connections, scene.broadcast.stake) == (2, "fi+")
    claim.disconnect()
    assert (claim.connections, scene.broadcast.stake) == (1, "fi+")
    assert scene.at(Phase.QUEUED)
    claim.disconnect()
    assert (claim.connections, scene.broadcast.stake) == (0, "fi")
    assert scene.at(Phase.IDLE)
    claim.cancel("")


@virtual
async def test_a_stream_of_a_request_that_has_ended_counts_for_nobody() -> None:
    """It reads what there is; opening and closing it must not touch those who still wait."""
    scene = Scene()
    ended, other = scene.join(), scene.join(attached=True)
    scene.go(Phase.LIVE)
    ended.cancel("")
    ended.connect()
    assert (ended.connections, ended.interested) == (1, False)
    ended.disconnect()
    await asyncio.sleep(100)
    assert scene.broadcast.stake == "fi+"
    assert scene.ends == [ended]
    other.cancel("")


@virtual
async def test_a_reader_that_comes_back_starts_a_new_grace() -> None:
    """The old one must not run out under the reader that is there, nor shorten the next."""
    scene = Scene()
    claim = scene.join()
    scene.go(Phase.IDLE)
    claim.connect()
    scene.broadcast.signal(Signal.SLOT_GRANTED)
    claim.disconnect()
    await asyncio.sleep(4)
    claim.connect()
    claim.disconnect()
    await asyncio.sleep(4.9)
    assert claim.interested
    await asyncio.sleep(0.2)
    assert claim.ended is not None
    assert claim.ended.at - claim.joined_at == pytest.approx(4 + TIMERS.grace_s)


@virtual
async def test_the_last_to_leave_the_queue_waits_its_grace_in_idle() -> None:
    """Nothing is asked of the model meanwhile, and after the grace it is over, not expired."""
    scene = Scene()
    claim = scene.join()
    scene.go(Phase.IDLE)
    claim.connect()
    claim.disconnect()
    await asyncio.sleep(TIMERS.grace_s - 0.1)
    assert scene.at(Phase.IDLE)
    await asyncio.sleep(0.2)
    assert claim.ended is not None
    assert (claim.ended.outcome, claim.ended.reason) == (Outcome.CANCELLED, "abandoned")


@virtual
async def test_a_request_that_fails_alone_leaves_the_others_the_answer() -> None:
    """What one reader has seen cannot be continued; the others have seen nothing of the kind."""
    scene = Scene()
    failing, other = scene.join(attached=True), scene.join(attached=True)
    scene.go(Phase.LIVE)
    error = UpstreamTruncated()
    failing.fail(error)
    assert failing.ended is not None
    assert (failing.ended.outcome, failing.ended.error) == (Outcome.FAILED, error)
    assert (failing.ended.shared, failing.ended.at) == (False, now())
    assert scene.at(Phase.LIVE)
    other.fail(UpstreamTruncated())
    assert scene.at(Phase.CANCELLED)


@virtual
async def test_an_end_told_from_elsewhere_is_its_only_end() -> None:
    """As it was there; the broadcast is judged without it, and a second telling is late."""
    scene = Scene()
    claim = scene.join(attached=True)
    scene.go(Phase.LIVE)
    end = End(Outcome.COMPLETED, 1.0, shared=True)
    claim.finish_alone(end)
    claim.finish_alone(End(Outcome.FAILED, 2.0, shared=False))
    assert claim.ended is end
    assert scene.ends == [claim]
    assert scene.at(Phase.CANCELLED)


@virtual
async def test_a_reader_elsewhere_ends_the_wait_for_one_here() -> None:
    """Its stream is open in another process, which counts it: here it is counted until that is known."""
    scene = Scene()
    claim = scene.join()
    scene.go(Phase.IDLE)
    await asyncio.sleep(60)
    claim.came_elsewhere()
    claim.came_elsewhere()
    await asyncio.sleep(TIMERS.grace_s - 0.1)
    assert claim.interested
    await asyncio.sleep(0.2)
    assert not claim.interested
    assert claim.ended is not None
    assert claim.ended.reason == "abandoned", "it has come, so it is not one who never came"


@virtual
async def test_a_reader_elsewhere_is_waited_for_long_enough_to_be_counted() -> None:
    """Without a grace too: word between processes takes its time."""
    scene = Scene(timers=ClaimTimers(grace_s=0))
    claim, other = scene.join(), scene.join(attached=True)
    scene.go(Phase.QUEUED)
    claim.came_elsewhere()
    await asyncio.sleep(COUNTED_S - 0.1)
    assert claim.interested
    await asyncio.sleep(0.2)
    assert not claim.interested
    other.cancel("")
    assert scene.at(Phase.CANCELLED)


@virtual
async def test_a_reader_elsewhere_does_not_stop_the_clocks_of_the_queues() -> None:
    """The subscribe timer is over with its coming; the waits for a permit and for a slot are not."""
    scene = Scene()
    claim = scene.join()
    keeper = scene.join(attached=True)
    claim.came_elsewhere()
    assert claim.ended is None
    await asyncio.sleep(TIMERS.queue_s + 0.1)
    assert claim.ended is not None
    assert claim.ended.outcome is Outcome.EXPIRED
    keeper.cancel("")


@virtual
async def test_a_reader_elsewhere_changes_nothing_for_one_who_is_here_or_has_ended() -> None:
    """It was counted here first, and its stream is open; an end stays an end."""
    scene = Scene()
    here, ended, other = scene.join(), scene.join(), scene.join(attached=True)
    scene.go(Phase.QUEUED)
    here.connect()
    ended.cancel("")
    for claim in (here, ended):
        claim.came_elsewhere()
    await asyncio.sleep(10)
    assert here.interested
    assert not ended.interested
    here.disconnect()
    here.cancel("")
    other.cancel("")


@virtual
async def test_who_never_came_and_who_came_and_left_are_told_apart() -> None:
    """When the broadcast ends for want of interest: one has expired, the other was abandoned."""
    scene = Scene()
    ghost, reader = scene.join(), scene.join()
    scene.go(Phase.IDLE)
    reader.connect()
    scene.broadcast.signal(Signal.SLOT_GRANTED)
    scene.broadcast.abandon(expired=False)
    assert ghost.ended is not None
    assert reader.ended is not None
    assert (ghost.ended.outcome, type(ghost.ended.error)) == (Outcome.EXPIRED, SubscribeTimeout)
    assert (reader.ended.outcome, reader.ended.reason) == (Outcome.CANCELLED, "abandoned")
    assert {ghost.ended.shared, reader.ended.shared} == {False}
    reader.disconnect()


@virtual
async def test_a_subscribe_deadline_is_set_once() -> None:
    """Back in IDLE after somebody came and left, the one who never came has what is left of its time."""
    scene = Scene()
    ghost, reader = scene.join(), scene.join()
    scene.go(Phase.IDLE)
    began = now()
    await asyncio.sleep(40)
    reader.connect()
    reader.disconnect()
    assert scene.at(Phase.IDLE)
    await asyncio.sleep(100)
    assert ghost.ended is not None
    assert ghost.ended.at - began == pytest.approx(TIMERS.subscribe_s)
    assert isinstance(ghost.ended.error, SubscribeTimeout)


@virtual
async def test_who_never_came_lapses_in_every_later_wait_too() -> None:
    """Queued, idle and queued again: at its deadline it counts no longer, whoever else listens."""
    scene = Scene()
    ghost, reader = scene.join(), scene.join()
    scene.go(Phase.IDLE)
    reader.connect()
    reader.disconnect()
    reader.connect()
    assert scene.at(Phase.QUEUED)
    await asyncio.sleep(TIMERS.subscribe_s - 0.1)
    assert ghost.interested
    await asyncio.sleep(0.2)
    assert not ghost.interested
    assert ghost.ended is None
    reader.cancel("")
    reader.disconnect()


@virtual
async def test_interest_is_lost_once() -> None:
    """A retry starts the timers anew for one who has lapsed: the reader that is there must not pay for it."""
    scene = Scene()
    ghost, reader = scene.join(), scene.join(attached=True)
    scene.go(Phase.LIVE)
    await asyncio.sleep(TIMERS.subscribe_s + 1)
    assert not ghost.interested
    scene.broadcast.signal(Signal.RETRY)
    await asyncio.sleep(1)
    scene.broadcast.signal(Signal.SLOT_GRANTED)
    await asyncio.sleep(1)
    assert scene.at(Phase.LIVE)
    assert scene.broadcast.stake == "fi+"
    reader.cancel("")
    assert scene.at(Phase.CANCELLED)


@virtual
async def test_one_who_is_left_alone_before_it_came_expires() -> None:
    """Its one deadline ends it and the broadcast, as expired: nobody has cancelled anything."""
    scene = Scene()
    ghost, reader = scene.join(), scene.join(attached=True)
    scene.broadcast.signal(Signal.GRANTED)
    scene.broadcast.signal(Signal.PREPARED)
    assert scene.at(Phase.QUEUED)
    reader.disconnect()
    assert scene.at(Phase.IDLE)
    await asyncio.sleep(TIMERS.subscribe_s + 0.1)
    assert ghost.ended is not None
    assert isinstance(ghost.ended.error, SubscribeTimeout)
    assert scene.at(Phase.EXPIRED)


@virtual
async def test_a_request_that_has_ended_is_freed_at_once() -> None:
    """Not at the deadline that it might have had; and its first end stays."""
    scene = Scene()
    waits, lapses, reader = scene.join(), scene.join(), scene.join(attached=True)
    scene.broadcast.signal(Signal.GRANTED)
    scene.broadcast.signal(Signal.PREPARED)
    lapses.connect()
    lapses.disconnect()
    first = End(Outcome.CANCELLED, now(), shared=False)
    for claim in (waits, lapses):
        scene.broadcast.leave(claim)
        claim.end(first)
        claim.end(End(Outcome.FAILED, now(), shared=False))
        assert claim.ended is first
    assert scene.ends == [waits, lapses]
    scene.ends.clear()
    left = [weakref.ref(waits), weakref.ref(lapses)]
    scene.broadcast.interest(reader, 0)
    gc.disable()
    try:
        del waits, lapses, claim
        assert [ref() for ref in left] == [None, None]
    finally:
        gc.enable()
    reader.cancel("")
