"""The upstream side of a broadcast: the permit, the retries, and never a splice of two answers."""

from __future__ import annotations

import asyncio

import pytest

from broadcast.lifecycle import Phase
from broadcast.outcome import Outcome
from runtime.errors import UpstreamError, UpstreamRateLimited, UpstreamRejected, UpstreamTruncated
from tests.fakes.answering import MAX_LOG_BYTES, Answer, Answers
from tests.fakes.claims import Ticket
from tests.fakes.invariants import assert_free
from tests.fakes.turns import settle, until
from tests.virtual_time import virtual
from upstream.errors import UpstreamUnavailable


def error_of(answer: Answer) -> Exception | None:
    assert answer.broadcast.end is not None
    return answer.broadcast.end.error


@virtual
async def test_an_answer_is_streamed_and_sealed() -> None:
    """From the queue through the slot to the end, with the permit back."""
    parts = Answers()
    answer = parts.queued()
    await answer.run()
    assert answer.text == "1: answer to q"
    assert answer.driver.entered_phases[-2:] == [Phase.LIVE, Phase.SEALED]
    assert answer.claim.ended is not None
    assert answer.claim.ended.outcome is Outcome.COMPLETED
    assert_free(parts.stage)


@virtual
async def test_the_permit_is_held_until_the_upstreams_stream_is_closed() -> None:
    """The client has its `done` at once; the slot is free only when the upstream is rid of us."""
    parts = Answers()
    parts.model.by_hand.add("q")
    answer = parts.queued()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(answer.run())
        call = await parts.model.call("q")
        call.say("1:")
        call.complete()
        await until(lambda: not answer.broadcast.running)
        assert not running.done()
        assert call.open
        assert parts.stage.stats().in_use == 1
    assert not call.open
    assert_free(parts.stage)


@virtual
async def test_a_transient_failure_is_tried_again_three_times_at_most() -> None:
    """Row 65: exponential back-off, no permit held meanwhile, and then the upstream's own error."""
    parts = Answers()
    answer = parts.queued()
    parts.model.errors["q"] = [UpstreamUnavailable() for _ in range(3)]
    began = asyncio.get_running_loop().time()
    async with asyncio.TaskGroup() as group:
        group.create_task(answer.run())
        for calls in (1, 2):
            await settle()
            assert len(parts.model.calls) == calls
            assert answer.broadcast.phase is Phase.QUEUED
            assert parts.stage.stats().in_use == 0
            await asyncio.sleep(0.25 * calls)
    assert asyncio.get_running_loop().time() - began == pytest.approx(0.75)
    assert len(parts.model.calls) == 3
    assert isinstance(error_of(answer), UpstreamUnavailable)
    assert_free(parts.stage)


@virtual
async def test_a_retry_that_succeeds_shows_one_whole_answer() -> None:
    """The first call had said something that is not content: no reader may have seen a part of it."""
    parts = Answers()
    parts.model.by_hand.add("q")
    answer = parts.queued()
    async with asyncio.TaskGroup() as group:
        group.create_task(answer.run())
        first = await parts.model.call("q")
        first.open_with_role()
        await settle()
        assert len(answer.broadcast.log) == 0
        first.fail(UpstreamUnavailable())
        await asyncio.sleep(1)
        second = await parts.model.call("q", 2)
        second.open_with_role()
        second.say("2: whole")
        second.complete()
    assert answer.text == "2: whole"
    assert answer.broadcast.phase is Phase.SEALED
    assert answer.broadcast.log.seq == 1
    assert len(answer.broadcast.log) == 4


@virtual
async def test_nothing_is_tried_again_after_the_first_delta() -> None:
    """Row 47: the text so far is kept, and the failure is told."""
    parts = Answers()
    parts.model.by_hand.add("q")
    answer = parts.queued()
    async with asyncio.TaskGroup() as group:
        group.create_task(answer.run())
        call = await parts.model.call("q")
        call.say("1: so far")
        call.fail(UpstreamUnavailable())
    assert answer.text == "1: so far"
    assert answer.broadcast.phase is Phase.FAILED
    assert len(parts.model.calls) == 1
    assert_free(parts.stage)


@pytest.mark.parametrize("error", [UpstreamRejected(status=400), UpstreamTruncated(), UpstreamError()])
def test_what_will_not_pass_is_asked_once(error: UpstreamError) -> None:
    """Row 65: a 400 is a 400 the second time too."""

    @virtual
    async def asked_once() -> None:
        parts = Answers()
        answer = parts.queued()
        parts.model.errors["q"] = [error]
        await answer.run()
        assert error_of(answer) is error
        assert len(parts.model.calls) == 1
        assert_free(parts.stage)

    asked_once()


@virtual
async def test_a_rate_limit_is_waited_out_by_everybody() -> None:
    """Row 64: the one who was told waits at least that long, and nobody else is let in meanwhile."""
    parts = Answers(capacity=4)
    answer, other = parts.queued("q"), parts.queued("other")
    parts.model.errors["q"] = [UpstreamRateLimited(retry_after=9)]
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.TaskGroup() as group:
        group.create_task(answer.run())
        await settle()
        group.create_task(other.run())
        await asyncio.sleep(8.9)
        assert len(parts.model.calls) == 1
    assert loop.time() - began >= 9.25
    assert [answer.broadcast.phase, other.broadcast.phase] == [Phase.SEALED, Phase.SEALED]
    await asyncio.sleep(2)
    assert_free(parts.stage)


@virtual
async def test_a_rate_limit_beyond_the_deadline_fails_at_once() -> None:
    """Nobody waits two minutes to be told no; and one absurd header closes the gateway for 30 s at most."""
    parts = Answers()
    answer = parts.queued()
    parts.model.errors["q"] = [UpstreamRateLimited(retry_after=86_400)]
    began = asyncio.get_running_loop().time()
    await answer.run()
    assert asyncio.get_running_loop().time() == began
    assert isinstance(error_of(answer), UpstreamRateLimited)
    assert 0 < parts.stage.predicted_wait() <= 30
    await asyncio.sleep(32)
    assert_free(parts.stage)


@virtual
async def test_a_retry_keeps_its_age() -> None:
    """After its back-off it goes before those who came later and waited meanwhile."""
    parts = Answers()
    answer, later = parts.queued("q", order=1), parts.queued("later", order=2)
    parts.model.errors["q"] = [UpstreamUnavailable()]
    async with asyncio.TaskGroup() as group:
        group.create_task(answer.run())
        await settle()
        holder = parts.stage.admit(Ticket("holder", 0))
        group.create_task(later.run())
        await asyncio.sleep(1)
        assert parts.stage.stats().waiting == 2
        holder.withdraw()
    assert [call.prompt for call in parts.model.calls] == ["q", "q", "later"]
    assert_free(parts.stage)


@virtual
async def test_a_call_that_fails_unwatched_goes_back_to_idle() -> None:
    """Nobody is connected, somebody may come back within the grace: no second call is made for nobody."""
    parts = Answers()
    parts.model.by_hand.add("q")
    answer = parts.queued()
    native = answer.native_twin()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(answer.run())
        call = await parts.model.call("q")
        answer.claim.disconnect()
        assert answer.broadcast.phase is Phase.LIVE
        call.fail(UpstreamUnavailable())
        await running
        assert answer.broadcast.phase.value == "idle"
    await asyncio.sleep(10)
    assert len(parts.model.calls) == 1
    assert_free(parts.stage)
    native.cancel("")


@virtual
async def test_a_runaway_answer_is_cut() -> None:
    """Readers may read on beyond the bound at which new ones are refused, but not for ever."""
    parts = Answers()
    parts.model.by_hand.add("q")
    answer = parts.queued()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(answer.run())
        call = await parts.model.call("q")
        while not running.done():
            call.say("x" * 1000)
            await asyncio.sleep(0)
    assert answer.broadcast.phase is Phase.FAILED
    assert MAX_LOG_BYTES * 4 < answer.broadcast.log.size < MAX_LOG_BYTES * 5
    assert_free(parts.stage)
