"""A claim: interest is counted and not guessed, each timer starts at its own stage, and it ends once."""

from __future__ import annotations

import asyncio

import pytest

from broadcast.claim import ClaimTimers
from broadcast.lifecycle import Phase, Signal
from broadcast.outcome import Outcome
from runtime.errors import GatewayError, QueueTimeout, SlotTimeout, SubscribeTimeout
from tests.fakes.claims import TIMERS, Scene
from tests.virtual_time import virtual


@virtual
async def test_the_queue_timer_runs_while_it_waits_for_a_leaders_permit() -> None:
    """Row 51: at its deadline it expires, with the timer's name."""
    scene = Scene()
    claim = scene.join()
    await asyncio.sleep(59.9)
    assert claim.ended is None
    await asyncio.sleep(0.2)
    assert claim.ended is not None
    assert claim.ended.outcome is Outcome.EXPIRED
    assert isinstance(claim.ended.error, QueueTimeout)
    assert scene.at(Phase.EXPIRED)


@virtual
async def test_time_in_the_queue_is_not_counted_against_later_timers() -> None:
    """Rule 7, row 53: a timer starts when its stage is entered, so 59 s of queueing cost nothing later."""
    scene = Scene()
    claim = scene.join()
    await asyncio.sleep(59)
    scene.go(Phase.PREPARING)
    await asyncio.sleep(500)
    scene.broadcast.signal(Signal.PREPARED)
    await asyncio.sleep(69)
    assert claim.ended is None
    claim.connect()
    await asyncio.sleep(119)
    assert claim.ended is None
    scene.broadcast.signal(Signal.SLOT_GRANTED)
    await asyncio.sleep(5000)
    assert claim.ended is None
    scene.broadcast.complete()
    claim.disconnect()
    assert [end.ended and end.ended.outcome for end in scene.ends] == [Outcome.COMPLETED]


@pytest.mark.parametrize(
    ("phase", "attached", "seconds", "error"),
    [
        (Phase.WAITING, True, TIMERS.queue_s, QueueTimeout),
        (Phase.IDLE, False, TIMERS.subscribe_s, SubscribeTimeout),
        (Phase.QUEUED, True, TIMERS.slot_s, SlotTimeout),
    ],
)
def test_each_waiting_stage_has_its_own_timer(
    phase: Phase, attached: bool, seconds: float, error: type[GatewayError]
) -> None:
    """Exactly its own seconds, counted from its own entry, and its own code."""

    @virtual
    async def expires() -> None:
        scene = Scene()
        claim = scene.join(attached=attached)
        await asyncio.sleep(7)
        scene.go(phase)
        await asyncio.sleep(10_000)
        assert claim.ended is not None
        assert claim.ended.at - scene.broadcast.entered_at[phase] == pytest.approx(seconds)
        assert claim.ended.outcome is Outcome.EXPIRED
        assert type(claim.ended.error) is error
        assert scene.at(Phase.EXPIRED)
        assert scene.ends == [claim]

    expires()


@virtual
async def test_preparing_and_streaming_are_nobodys_deadline_here() -> None:
    """Their timers belong to the flight: a claim waits them out."""
    for phase in (Phase.PREPARING, Phase.LIVE):
        scene = Scene()
        claim = scene.join(attached=True)
        scene.go(phase)
        await asyncio.sleep(10_000)
        assert claim.ended is None
        claim.disconnect()


@virtual
async def test_a_followers_own_deadline_outlives_the_leaders() -> None:
    """Deadlines belong to requests: at its own a request alone ends, the flight keeps its place."""
    scene = Scene()
    leader = scene.join(order=1)
    await asyncio.sleep(40)
    follower = scene.join(order=2)
    await asyncio.sleep(21)
    assert leader.ended is not None
    assert isinstance(leader.ended.error, QueueTimeout)
    assert follower.ended is None
    assert scene.at(Phase.WAITING)

    await asyncio.sleep(38)
    assert follower.ended is None
    await asyncio.sleep(1.1)
    assert follower.ended is not None
    assert scene.at(Phase.EXPIRED)
    assert scene.ends == [leader, follower]


@virtual
async def test_a_retry_starts_the_slot_timer_anew() -> None:
    """Back in the queue it is a new stay in that stage."""
    scene = Scene()
    claim = scene.join(attached=True)
    scene.go(Phase.QUEUED)
    await asyncio.sleep(100)
    scene.broadcast.signal(Signal.SLOT_GRANTED)
    await asyncio.sleep(100)
    scene.broadcast.signal(Signal.RETRY)
    await asyncio.sleep(119)
    assert claim.ended is None
    await asyncio.sleep(2)
    assert claim.ended is not None
    assert isinstance(claim.ended.error, SlotTimeout)


@virtual
async def test_a_native_request_stays_interested_for_the_grace() -> None:
    """Row 42: a reader that comes back within the grace finds everything as it was."""
    scene = Scene()
    claim = scene.join()
    scene.go(Phase.IDLE)
    claim.connect()
    scene.broadcast.signal(Signal.SLOT_GRANTED)
    claim.disconnect()
    await asyncio.sleep(4.9)
    claim.connect()
    await asyncio.sleep(100)
    assert claim.ended is None
    claim.disconnect()
    await asyncio.sleep(5.1)
    assert claim.ended is not None
    assert (claim.ended.outcome, claim.ended.reason) == (Outcome.CANCELLED, "abandoned")
    assert scene.at(Phase.CANCELLED)


@virtual
async def test_without_a_grace_the_last_close_is_the_end() -> None:
    """`ABANDON_GRACE_S=0` means at once."""
    scene = Scene(timers=ClaimTimers(grace_s=0))
    claim = scene.join()
    scene.go(Phase.IDLE)
    claim.connect()
    claim.connect()
    claim.disconnect()
    assert claim.ended is None
    claim.disconnect()
    assert claim.ended is not None
    assert scene.ends == [claim]


@virtual
async def test_an_openai_request_is_interested_as_long_as_its_connection_lives() -> None:
    """No grace: its connection is the request."""
    scene = Scene()
    claim = scene.join(attached=True)
    scene.go(Phase.LIVE)
    claim.disconnect()
    assert claim.ended is not None
    assert claim.ended.reason == "disconnected"
    assert scene.at(Phase.CANCELLED)


@virtual
async def test_who_has_not_come_yet_counts_until_its_subscribe_deadline() -> None:
    """While others listen: a leader that never opens its stream does not keep the flight for ever."""
    scene = Scene()
    ghost, reader = scene.join(), scene.join()
    scene.go(Phase.IDLE)
    reader.connect()
    scene.broadcast.signal(Signal.SLOT_GRANTED)
    await asyncio.sleep(60)
    reader.disconnect()
    await asyncio.sleep(5.1)
    assert scene.at(Phase.LIVE), "the ghost may still come"
    await asyncio.sleep(5)
    assert scene.at(Phase.CANCELLED)
    assert ghost.ended is not None
    assert isinstance(ghost.ended.error, SubscribeTimeout)
    assert reader.ended is not None
    assert reader.ended.reason == "abandoned"


@virtual
async def test_a_latecomer_that_had_lapsed_is_welcome_while_it_runs() -> None:
    """Losing interest is not an end: the stream is still there for it, and it counts again."""
    scene = Scene()
    late, reader = scene.join(), scene.join(attached=True)
    scene.go(Phase.LIVE)
    await asyncio.sleep(200)
    assert not late.interested
    late.connect()
    reader.disconnect()
    assert scene.at(Phase.LIVE)
    scene.broadcast.complete()
    assert late.ended is not None
    assert late.ended.outcome is Outcome.COMPLETED
    late.disconnect()


@virtual
async def test_a_cancel_ends_one_request_and_its_timers() -> None:
    """Cancel, cancel again, disconnect, and then the broadcast's own end: one end in all."""
    scene = Scene()
    claim, other = scene.join(attached=True), scene.join(attached=True)
    scene.go(Phase.QUEUED)
    claim.cancel("enough")
    claim.cancel("again")
    claim.disconnect()
    await asyncio.sleep(119)
    scene.broadcast.signal(Signal.SLOT_GRANTED)
    scene.broadcast.complete()
    assert claim.ended is not None
    assert (claim.ended.reason, claim.ended.shared) == ("enough", False)
    assert scene.ends == [claim, other]
    assert other.ended is not None
    assert other.ended.shared
    other.disconnect()


@virtual
async def test_a_claim_that_joins_an_ended_broadcast_ends_with_it_at_once() -> None:
    """A hit is a request like any other, and already over."""
    scene = Scene()
    leader = scene.join(attached=True)
    scene.go(Phase.LIVE)
    scene.broadcast.complete()
    late = scene.join()
    assert late.ended is scene.broadcast.end is leader.ended
    late.connect()
    late.disconnect()
    leader.disconnect()
    assert scene.ends == [leader, late]
