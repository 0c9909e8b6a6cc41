"""A workflow in the whole pipeline below the wire: prepared, joined, streamed, given up like any request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from admission import Priority
from broadcast.broadcast import Broadcast
from broadcast.outcome import Outcome
from chatbot.record import Record
from chatbot.request import CacheDirectives, ChatRequest
from chatbot.ticket import Ticket
from chatbot.via import NATIVE, OPENAI, Via
from processing.caller import Caller
from processing.calls import ModelCalls
from processing.preparer import Preparer
from processing.workflows.step import WorkflowStep
from tests.fakes.pipeline import Pipeline, pipeline
from tests.fakes.turns import settle, until
from tests.fakes.workflows import workflows
from tests.virtual_time import virtual
from upstream.client import ModelClient

# Its last prompt is the question: the pipeline's invariants look for the call that was made for that.
REVIEW = """
    name: review
    pattern: fork_join
    branches:
      - {name: a, prompt: "a"}
      - {name: b, prompt: "b"}
      - {name: sub, workflow: inner, prompt: "c"}
    answer: {name: verdict, model: judge, prompt: "{{ question }}"}
"""
INNER = 'name: inner\npattern: pipeline\nsteps: [{name: x, prompt: "x {{ question }}"}, {name: y, prompt: y}]'


@asynccontextmanager
async def reviewing(**limits: Any) -> AsyncIterator[Pipeline]:
    """At rest when it is left, with every invariant."""
    async with pipeline(**limits) as pipe:
        model, spawn = cast(ModelClient, pipe.model), pipe.supervisor.spawn
        calls = ModelCalls(model, pipe.llm_calls, pipe.retry, spawn, patience_s=1)
        step = WorkflowStep(
            workflows(REVIEW, INNER),
            calls,
            lambda prompt: Caller("scope", prompt.tenant),
            show=lambda turn, where: cast(Broadcast[Any], turn).show_step(where),
        )
        pipe.broadcasts._preparer = Preparer([step])
        yield pipe


async def ask(pipe: Pipeline, question: str, via: Via = OPENAI) -> Record:
    body = {"model": "workflow:review", "messages": [{"role": "user", "content": question}]}
    ticket = Ticket.issue("t", Priority.INTERACTIVE)
    pipe.prompts[ticket.id] = question
    record, _ = await pipe.manager.submit(
        ChatRequest(body, Priority.INTERACTIVE, CacheDirectives(), None), ticket, via
    )
    return record


@virtual
async def test_a_workflow_is_asked_like_a_model_and_answers_like_one() -> None:
    """Rows 104 and 75: with every limit at 1; the last step alone streams, once for all who ask the same."""
    async with reviewing(leaders=1, followers=1, streams=1, calls=1) as pipe:
        first = await ask(pipe, "q")
        second = await ask(pipe, "q")
        readings = [await pipe.read(first), await pipe.read(second)]
        assert [reading.outcome for reading in readings] == [Outcome.COMPLETED] * 2
        assert readings[0].text == readings[1].text == "5: answer to q"
        assert [call.prompt for call in pipe.model.calls] == ["plan:a", "plan:b", "plan:x c", "plan:y", "q"]
        assert pipe.model.calls[-1].body["model"] == "judge"
        assert pipe.model.peak == {"llm_calls": 1, "llm_streams": 1}


@virtual
async def test_who_waits_sees_the_step() -> None:
    """Minutes of preparation without a word look like a gateway that hangs."""
    async with reviewing(calls=1) as pipe:
        pipe.model.by_hand |= {"plan:y"}
        record = await ask(pipe, "q", NATIVE)
        call = await pipe.model.call("plan:y")
        assert record.broadcast.step == "workflow/sub/y"
        call.say("done")
        call.complete()
        assert (await pipe.read(record)).outcome is Outcome.COMPLETED


@virtual
async def test_a_flight_that_is_given_up_takes_its_workflow_with_it() -> None:
    """Cancelled while one call runs and others wait: no call is made afterwards, every permit is back."""
    async with reviewing(calls=1) as pipe:
        pipe.model.by_hand |= {"plan:a"}
        record = await ask(pipe, "q", NATIVE)
        await pipe.model.call("plan:a")
        await until(lambda: pipe.llm_calls.stats().waiting == 2)
        pipe.cancel(record)
        await settle()
        assert pipe.llm_calls.stats().in_use == pipe.leaders.stats().in_use == 0
        assert len(pipe.model.calls) == 1


@virtual
async def test_a_workflow_that_takes_too_long_is_a_preparation_that_takes_too_long() -> None:
    """The leaders permit is not held for ever by a step that hangs."""
    async with reviewing(prepare_s=53) as pipe:
        pipe.model.by_hand |= {"plan:a"}
        began = asyncio.get_running_loop().time()
        reading = await pipe.read(await ask(pipe, "q"))
        assert asyncio.get_running_loop().time() - began == 53
        assert reading.ended is not None
        assert reading.ended.error is not None
        assert reading.ended.error.code == "prepare_timeout"
