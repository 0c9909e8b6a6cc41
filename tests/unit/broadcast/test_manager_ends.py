"""What preparation decides reaches the model and the cache; a drain waits for what is being stored."""

from __future__ import annotations

import asyncio

import pytest

from broadcast.claim import Claim
from broadcast.lifecycle import Phase
from broadcast.outcome import Outcome
from chatbot.via import OPENAI
from runtime.errors import UpstreamTruncated
from tests.fakes.claims import TIMERS, Ticket
from tests.fakes.pipeline import pipeline
from tests.fakes.turns import settle, until
from tests.virtual_time import virtual
from upstream.errors import UpstreamUnavailable


@virtual
async def test_the_model_gets_what_was_prepared() -> None:
    """Not what the client sent: else a preparation would be paid for and thrown away."""
    async with pipeline(hook=True) as pipe:
        pipe.hook.model = "another"
        assert (await pipe.ask_and_read("q")).outcome is Outcome.COMPLETED
        assert [call.body["model"] for call in pipe.model.calls] == ["another"]


@virtual
async def test_what_preparation_forbids_to_keep_is_not_kept() -> None:
    """And is not shown as stored; the next one with that question asks anew."""
    async with pipeline(hook=True) as pipe:
        pipe.hook.store = False
        record = await pipe.ask("q", OPENAI)
        await pipe.read(record)
        await settle()
        assert not record.broadcast.stored
        assert pipe.flights.find(record.broadcast.key or "") is None
        pipe.hook.store = True
        kept = await pipe.ask("q", OPENAI)
        await pipe.read(kept)
        assert kept.broadcast.stored
        assert len(pipe.model.calls) == 2


@virtual
async def test_a_drain_waits_for_an_answer_that_is_being_stored() -> None:
    """It was paid for, and its clients have their end already: it ends with the last one stored."""
    async with pipeline() as pipe:
        record = await pipe.ask("a", OPENAI)
        pipe.store.gate.clear()
        await until(lambda: record.claim.ended is not None)
        await settle()
        assert pipe.broadcasts.running == {}
        assert pipe.broadcasts.rest.storing == 1
        asyncio.get_running_loop().call_later(0.05, pipe.store.gate.set)
        began = asyncio.get_running_loop().time()
        await pipe.broadcasts.rest.come(0)
        assert asyncio.get_running_loop().time() - began == pytest.approx(0.05)
        assert pipe.broadcasts.rest.storing == 0
        assert (await pipe.ask_and_read("a")).text == "1: answer to a"
        assert len(pipe.model.calls) == 1


@virtual
async def test_a_drain_ends_in_the_turn_in_which_the_last_stream_does() -> None:
    """Whoever waits for rest is woken by what ended, and not by a timer: here there is none."""
    async with pipeline() as pipe, asyncio.TaskGroup() as group:
        pipe.model.by_hand.add("q")
        reading = group.create_task(pipe.ask_and_read("q"))
        call = await pipe.model.call("q")
        resting = group.create_task(pipe.broadcasts.rest.come(0))
        await settle()
        assert not resting.done()
        call.fail(UpstreamTruncated())
        await until(reading.done)
        await until(resting.done)


@virtual
async def test_a_step_that_breaks_is_a_bug_that_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Its clients are told of an error of ours, and whoever runs the gateway of the bug itself."""
    async with pipeline(hook=True) as pipe:
        pipe.hook.error = ZeroDivisionError("a bug")
        record = await pipe.ask("q", OPENAI)
        await until(lambda: record.claim.ended is not None)
        assert record.broadcast.phase is Phase.FAILED
        await settle()
        logged = [entry.exc_info for entry in caplog.records if entry.exc_info]
        assert [type(one[1]) for one in logged] == [ZeroDivisionError]


@virtual
async def test_a_retry_is_made_by_the_task_that_failed_and_by_no_other() -> None:
    """Back in the queue it has its task already: a second one would ask the model twice."""
    async with pipeline() as pipe:
        pipe.model.errors["q"] = [UpstreamUnavailable()]
        assert (await pipe.ask_and_read("q")).text == "2: answer to q"
        assert len(pipe.model.calls) == 2


@virtual
async def test_an_answer_that_is_nobody_elses_is_not_stored(caplog: pytest.LogCaptureFixture) -> None:
    """Without a key there is nothing to store it under, and nothing to go wrong."""
    async with pipeline() as pipe:
        body = {"model": "m", "messages": [{"role": "user", "content": "q"}]}
        broadcast = pipe.broadcasts.open(None, body, 1.0)
        claim = Claim(Ticket("c", 0.0), broadcast, TIMERS, attached=True, on_end=lambda claim: None)
        broadcast.join(claim)
        pipe.broadcasts.begin(broadcast)
        await until(lambda: claim.ended is not None)
        await settle()
        assert (broadcast.phase, broadcast.stored) == (Phase.SEALED, False)
        assert not caplog.records
