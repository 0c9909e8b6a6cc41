"""A broadcast: who counts, what follows from it, whose turn it has, and how it ends for all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from admission import Stage
from broadcast.broadcast import Broadcast
from broadcast.claim import Claim
from broadcast.lifecycle import RUNNING, IllegalTransition, Phase, Signal
from broadcast.log import Log
from broadcast.outcome import Outcome
from broadcast.subscription import Subscription
from runtime.errors import UpstreamTruncated
from tests.fakes.claims import Event, RecordingDriver, Scene, Ticket
from tests.virtual_time import virtual


@virtual
async def test_no_slot_is_asked_for_until_somebody_subscribes() -> None:
    """Row 19: a prepared broadcast costs nothing; the first reader of any role starts it."""
    scene = Scene()
    leader, follower = scene.join(), scene.join()
    scene.go(Phase.IDLE)
    follower.connect()
    assert scene.at(Phase.QUEUED)
    leader.connect()
    assert scene.driver.entered_phases == [Phase.PREPARING, Phase.IDLE, Phase.QUEUED]
    for claim in (leader, follower):
        claim.cancel("")
        claim.disconnect()


@virtual
async def test_a_subscriber_that_came_early_starts_it_when_it_is_prepared() -> None:
    """A stream opened while the request is still queued counts from then on."""
    scene = Scene()
    claim = scene.join()
    claim.connect()
    scene.broadcast.signal(Signal.GRANTED)
    scene.broadcast.signal(Signal.PREPARED)
    assert scene.at(Phase.QUEUED)
    claim.cancel("")
    claim.disconnect()


@virtual
async def test_it_leaves_the_slot_queue_when_nobody_listens_any_more() -> None:
    """A slot is never taken without a live subscriber, and the next one starts it again."""
    scene = Scene()
    claim = scene.join()
    scene.go(Phase.IDLE)
    claim.connect()
    claim.disconnect()
    assert scene.at(Phase.IDLE)
    claim.connect()
    assert scene.at(Phase.QUEUED)
    claim.cancel("")
    claim.disconnect()


@pytest.mark.parametrize("phase", list(RUNNING))
def test_in_every_phase_the_last_to_lose_interest_ends_it(phase: Phase) -> None:
    """Two requests, cancelled one after the other: it goes on after the first and ends with the second."""

    @virtual
    async def ends() -> None:
        scene = Scene()
        one, other = [scene.join(attached=phase is not Phase.IDLE) for _ in range(2)]
        scene.go(phase)
        one.cancel("x")
        assert scene.at(phase)
        other.cancel("y")
        assert scene.at(Phase.CANCELLED)
        assert [claim.ended and claim.ended.reason for claim in scene.ends] == ["x", "y"]
        assert scene.broadcast.claims == {}
        assert scene.broadcast.log.ended

    ends()


@pytest.mark.parametrize("phase", list(RUNNING))
def test_in_every_phase_a_failure_ends_it_for_all_with_the_same_error(phase: Phase) -> None:
    """Row 48: no follower is left behind, what has been produced is kept, and a second failure is nothing."""

    @virtual
    async def fails() -> None:
        scene = Scene()
        claims = [scene.join(attached=phase is not Phase.IDLE) for _ in range(3)]
        scene.go(phase)
        error = UpstreamTruncated()
        scene.broadcast.fail(error)
        scene.broadcast.fail(UpstreamTruncated())
        assert scene.at(Phase.FAILED)
        assert scene.ends == claims
        for claim in claims:
            assert claim.ended is not None
            assert (claim.ended.outcome, claim.ended.error) == (Outcome.FAILED, error)

    fails()


@virtual
async def test_an_unwatched_stream_is_finished_only_if_that_is_the_policy() -> None:
    """ABANDON_POLICY=finish: only while streaming, and never after an explicit cancel."""
    for finish, explicit, then in [
        (False, False, Phase.CANCELLED),
        (True, False, Phase.LIVE),
        (True, True, Phase.CANCELLED),
    ]:
        scene = Scene(finish=finish)
        claim = scene.join(attached=True)
        scene.go(Phase.LIVE)
        if explicit:
            claim.cancel("")
        claim.disconnect()
        assert scene.at(then)

    for phase in (Phase.WAITING, Phase.PREPARING, Phase.QUEUED):
        scene = Scene(finish=True)
        claim = scene.join(attached=True)
        scene.go(phase)
        claim.disconnect()
        assert scene.at(Phase.CANCELLED), "nothing streams yet: nothing to finish"


@virtual
async def test_a_finishing_stream_that_must_be_tried_again_is_not() -> None:
    """It went back to the queue with nobody interested: `finish` is for streams that run."""
    scene = Scene(finish=True)
    claim = scene.join(attached=True)
    scene.go(Phase.LIVE)
    claim.disconnect()
    scene.broadcast.signal(Signal.RETRY)
    assert scene.at(Phase.CANCELLED)


@virtual
async def test_the_turn_is_that_of_the_best_who_is_still_interested() -> None:
    """No inversion: up when a better one joins, down again when it leaves, up when it comes back."""
    stage = Stage("leaders", 1)
    holder, between = stage.admit(Ticket("", 0)), stage.admit(Ticket("", 10))
    scene = Scene()
    scene.broadcast.order = 30
    admission = scene.broadcast.admission = stage.admit(scene.broadcast)
    batch = scene.join(order=30)
    assert admission.position == 2

    urgent = scene.join(order=5)
    assert (scene.broadcast.order, admission.position, between.position) == (5, 1, 2)
    urgent.cancel("")
    assert (scene.broadcast.order, admission.position, between.position) == (30, 2, 1)

    wavering = scene.join(order=6)
    wavering.connect()
    wavering.disconnect()
    assert admission.position == 1
    await asyncio.sleep(5.1)
    assert admission.position == 2, "its interest has lapsed"
    wavering.connect()
    assert admission.position == 1

    for claim in (wavering, batch):
        claim.cancel("")
    wavering.disconnect()
    for one in (admission, between, holder):
        one.withdraw()


@virtual
async def test_every_reader_is_woken_by_every_change() -> None:
    """Row 32: a status, an event or an end is seen at once by whoever waits."""
    scene = Scene()
    claim = scene.join()
    subscription = Subscription(scene.broadcast.log)
    scene.broadcast.readers.add(subscription)
    other = scene.join()

    async def woken() -> None:
        async with asyncio.timeout(0.001):
            await subscription.wait()

    await woken()
    changes: list[Callable[[], None]] = [
        lambda: scene.broadcast.signal(Signal.GRANTED),
        lambda: scene.broadcast.show_step("hook"),
        lambda: scene.broadcast.signal(Signal.PREPARED),
        claim.connect,
        lambda: scene.say(b"text"),
        lambda: other.cancel("a neighbour's end may be mine"),
        lambda: scene.broadcast.fail(UpstreamTruncated()),
    ]
    for change in changes:
        change()
        await woken()
    claim.disconnect()


@virtual
async def test_a_sealed_or_running_one_can_be_joined_and_nothing_else() -> None:
    """A failed answer is nobody's twin, nor is one too long to be replayed."""
    for phase in RUNNING:
        scene = Scene()
        claim = scene.join(attached=phase is not Phase.IDLE)
        scene.go(phase)
        assert scene.broadcast.joinable
        claim.cancel("")
        assert not scene.broadcast.joinable

    driver = RecordingDriver()
    broadcast: Broadcast[Event] = Broadcast("k", Log(1, max_bytes=3), driver)
    broadcast.log.extend([Event(b"1234")])
    assert not broadcast.joinable
    assert Broadcast.landed("k", Log[Event](1), driver).joinable


@virtual
async def test_the_key_is_free_before_anybody_hears_of_the_end() -> None:
    """Row 40: whoever asks again on hearing it must not join the flight that just ended."""
    heard: list[bool] = []
    scene = Scene()

    def on_end(claim: Claim) -> None:
        heard.append(Phase.FAILED in scene.driver.entered_phases)

    claim = Claim(Ticket("a", 0), scene.broadcast, scene._timers, attached=True, on_end=on_end)
    scene.broadcast.join(claim)
    scene.broadcast.fail(UpstreamTruncated())
    assert heard == [True]


@virtual
async def test_a_driver_that_fails_leaves_no_request_without_an_end() -> None:
    """Whatever goes wrong behind it, the waiting clients are told."""

    class Failing(RecordingDriver):
        def grew(self, broadcast: Broadcast[Any]) -> None:
            """Nobody elsewhere to tell."""

        def attended(self, broadcast: Broadcast[Any]) -> None:
            """Nobody elsewhere to tell."""

        def may_abandon(self, broadcast: Broadcast[Any], *, expired: bool) -> bool:
            return True

        def entered(self, broadcast: Broadcast[Any], before: Phase) -> None:
            raise RuntimeError("the driver is broken")

    scene = Scene()
    claims = [scene.join(attached=True) for _ in range(2)]
    scene.broadcast.driver = Failing()
    with pytest.raises(RuntimeError):
        scene.broadcast.fail(UpstreamTruncated())
    assert scene.ends == claims


@virtual
async def test_an_illegal_signal_changes_nothing() -> None:
    """A bug shows as an error, not as a broadcast in a state that is none."""
    scene = Scene()
    claim = scene.join()
    with pytest.raises(IllegalTransition):
        scene.broadcast.signal(Signal.SLOT_GRANTED)
    assert scene.at(Phase.WAITING)
    claim.cancel("")
