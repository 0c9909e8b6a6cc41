"""Answering at its edges: what earns a retry, how long one is worth waiting for, and how much is too much."""

from __future__ import annotations

import asyncio
from typing import cast

from broadcast.answering import Answering
from broadcast.lifecycle import Phase
from runtime.errors import UpstreamBadResponse, UpstreamRateLimited, UpstreamTruncated
from tests.fakes.answering import MAX_LOG_BYTES, Answers
from tests.fakes.model import delta, role
from tests.virtual_time import virtual
from upstream.client import ModelClient
from upstream.errors import UpstreamUnavailable
from upstream.retry import RetryPolicy

PATIENCE_S = 50.0


class Thrifty(Answers):
    """A retry per call that is noted, no jitter, and less patience than the claims have."""

    def __init__(self) -> None:
        super().__init__()
        clock = asyncio.get_running_loop().time
        self.retry = RetryPolicy(clock, uniform=lambda low, high: low, ratio=1.0, floor=0)
        self.answering = Answering(cast(ModelClient, self.model), self.stage, self.retry, slot_s=PATIENCE_S)


@virtual
async def test_an_answer_earns_one_retry_however_often_it_is_tried() -> None:
    """Row 65: if tries earned tries, retries would keep a dead model busy for ever."""
    parts = Thrifty()
    once = parts.queued("once")
    parts.model.errors["once"] = [UpstreamUnavailable()]
    await once.run()
    assert once.broadcast.phase is Phase.SEALED
    assert once.broadcast.attempts == 2

    await asyncio.sleep(60)
    twice = parts.queued("twice")
    parts.model.errors["twice"] = [UpstreamUnavailable(), UpstreamUnavailable()]
    await twice.run()
    assert twice.broadcast.phase is Phase.FAILED
    assert twice.broadcast.attempts == 2


@virtual
async def test_a_retry_after_of_the_whole_patience_is_waited_for() -> None:
    """And one of more is not: the slot's deadline is the last moment that is worth anything."""
    for more, phase in ((0.0, Phase.SEALED), (0.001, Phase.FAILED)):
        parts = Thrifty()
        answer = parts.queued("q")
        parts.model.errors["q"] = [UpstreamRateLimited(retry_after=PATIENCE_S + more)]
        began = asyncio.get_running_loop().time()
        await answer.run()
        assert answer.broadcast.phase is phase
        assert (asyncio.get_running_loop().time() - began == PATIENCE_S) is (phase is Phase.SEALED)


@virtual
async def test_a_refusal_without_a_time_stops_nobody_else() -> None:
    """A 429 without Retry-After is its caller's back-off, no pause of the stage; nor is a 503 with one."""
    parts = Answers(capacity=2)
    answer, other = parts.queued("q"), parts.queued("other")
    parts.model.errors["q"] = [UpstreamRateLimited()]
    async with asyncio.TaskGroup() as group:
        group.create_task(answer.run())
        await asyncio.sleep(0.01)
        assert parts.stage.predicted_wait() == 0
        group.create_task(other.run())
    assert answer.broadcast.phase is other.broadcast.phase is Phase.SEALED


@virtual
async def test_an_answer_at_the_bound_is_not_too_large() -> None:
    """One byte more is."""
    one = len(delta("x").raw)
    for surplus, cut in ((0, False), (1, True)):
        parts = Answers()
        parts.model.by_hand.add("q")
        answer = parts.queued()
        async with asyncio.TaskGroup() as group:
            group.create_task(answer.run())
            call = await parts.model.call("q")
            call.say("x" * (4 * MAX_LOG_BYTES - one + 1 + surplus))
            await asyncio.sleep(1)
            assert (answer.broadcast.phase is Phase.FAILED) is cut
            if not cut:
                assert answer.broadcast.log.size == 4 * MAX_LOG_BYTES
                call.fail(UpstreamTruncated())
        end = answer.broadcast.end
        assert end is not None
        assert isinstance(end.error, UpstreamBadResponse) is cut


@virtual
async def test_what_precedes_the_first_words_comes_with_them() -> None:
    """In one batch with a role, and in an answer that says nothing at all."""
    parts = Answers()
    parts.model.by_hand.update({"mixed", "silent"})
    mixed, silent = parts.queued("mixed"), parts.queued("silent")
    async with asyncio.TaskGroup() as group:
        group.create_task(mixed.run())
        call = await parts.model.call("mixed")
        call._batches.put_nowait([role(), delta("words")])
        await asyncio.sleep(1)
        assert mixed.text == "words"
        assert len(mixed.broadcast.log) == 2
        call.complete()
    async with asyncio.TaskGroup() as group:
        group.create_task(silent.run())
        call = await parts.model.call("silent")
        call.open_with_role()
        call.complete()
    assert silent.broadcast.phase is Phase.SEALED
    assert len(silent.broadcast.log) == 3
    assert silent.broadcast.log.seq == 0
