"""What preparation has provided for if a prompt's calls fail: asked for only while nothing was said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import pytest

from broadcast.answering import Answering
from broadcast.lifecycle import Phase
from processing.account import account_of, preface
from processing.preparer import Prompt
from runtime.errors import FirstTokenTimeout, StreamTimeout, UpstreamError, UpstreamRateLimited
from tests.fakes.answering import Answer, Answers
from tests.fakes.model import Call, FakeModel
from tests.fakes.turns import settle
from tests.virtual_time import virtual
from upstream.chunk import Chunk
from upstream.client import ModelClient
from upstream.errors import UpstreamUnavailable
from upstream.permit import LlmPermit


def second_choice(answer: Answer, delay_s: float = 0.0) -> list[UpstreamError]:
    """Gives the answer another prompt, `second`, to be asked after `delay_s`; the failures it was told of."""
    heard: list[UpstreamError] = []
    prompt = answer.prompts[answer.broadcast]
    body = {"messages": [{"role": "user", "content": "second"}]}

    def otherwise(error: UpstreamError) -> tuple[Prompt, float]:
        heard.append(error)
        return Prompt(body, answer.broadcast, store=False), delay_s

    answer.prompts[answer.broadcast] = replace(prompt, otherwise=otherwise)
    return heard


def bounded(answer: Answer, within_s: float) -> None:
    prompt = answer.prompts[answer.broadcast]
    answer.prompts[answer.broadcast] = replace(prompt, within_s=within_s)


async def run_with(parts: Answers, *setups: Callable[[Answer], object]) -> Answer:
    answer = parts.queued("first")
    for setup in setups:
        setup(answer)
    await answer.run()
    return answer


@virtual
async def test_it_comes_after_the_gateways_own_tries() -> None:
    """They are the cheaper ones: three of the first prompt, and then the second with tries of its own."""
    for failures, phase in ((2, Phase.SEALED), (3, Phase.FAILED)):
        parts = Answers()
        parts.model.errors["first"] = [UpstreamUnavailable()] * 3
        parts.model.errors["second"] = [UpstreamUnavailable()] * failures
        answer = await run_with(parts, second_choice)
        assert [call.prompt for call in parts.model.calls] == ["first"] * 3 + ["second"] * 3
        assert answer.broadcast.phase is phase
        assert answer.text == ("6: answer to second" if phase is Phase.SEALED else "")


@virtual
async def test_the_account_that_is_told_is_that_of_the_prompt_that_answered() -> None:
    """It says which model that was."""
    parts = Answers()
    parts.model.errors["first"] = [FirstTokenTimeout()]
    answer = parts.queued("first")
    prompt = answer.prompts[answer.broadcast]
    first, second = (preface("m", {"tools": name}) for name in ("of the first", "of the second"))
    following = replace(prompt, body={"messages": [{"content": "second"}]}, preface=(second,))
    answer.prompts[answer.broadcast] = replace(
        prompt, preface=(first,), otherwise=lambda error: (following, 0.0)
    )
    await answer.run()
    assert account_of(answer.broadcast.log.events) == {"tools": "of the second"}
    assert sum(b"refrain" in chunk.raw for chunk in answer.broadcast.log.events) == 1


@virtual
async def test_its_failure_is_the_end() -> None:
    """It provides for nothing after itself."""
    parts = Answers()
    parts.model.errors["first"] = [FirstTokenTimeout()]
    parts.model.errors["second"] = [StreamTimeout()]
    answer = await run_with(parts, second_choice)
    assert answer.broadcast.phase is Phase.FAILED
    assert answer.broadcast.end is not None
    assert isinstance(answer.broadcast.end.error, StreamTimeout)


@virtual
async def test_what_the_client_asked_is_still_known() -> None:
    """Whoever takes the flight over begins with the question, not with a second choice."""
    parts = Answers()
    parts.model.errors["first"] = [FirstTokenTimeout()]
    answer = await run_with(parts, second_choice)
    assert answer.prompts[answer.broadcast].question == answer.body
    assert answer.prompts[answer.broadcast].store is False


@virtual
async def test_after_the_first_word_there_is_no_second_choice() -> None:
    """A splice of two answers would be worse than none."""
    parts = Answers()
    answer = parts.queued("first")
    heard = second_choice(answer)
    parts.model.by_hand.add("first")
    async with asyncio.TaskGroup() as group:
        group.create_task(answer.run())
        call = await parts.model.call("first")
        call.say("Well")
        await settle()
        call.fail(UpstreamUnavailable())
    assert answer.broadcast.phase is Phase.FAILED
    assert (answer.text, heard) == ("Well", [])


@virtual
async def test_a_try_that_says_nothing_within_its_time_gives_way() -> None:
    """And its permit is free while the next one has not been asked."""
    parts = Answers()
    parts.model.by_hand.add("first")
    began = asyncio.get_running_loop().time()
    answer = await run_with(parts, lambda each: bounded(each, 7), lambda each: second_choice(each, 5))
    assert answer.text == "2: answer to second"
    assert asyncio.get_running_loop().time() - began == 12
    assert parts.stage.stats().in_use == 0


@virtual
async def test_the_time_of_a_try_has_no_waiting_in_it() -> None:
    """It begins with the permit: a queue uses up nobody's time."""
    parts = Answers()
    parts.model.by_hand |= {"other", "first"}
    other, answer = parts.queued("other"), parts.queued("first")
    bounded(answer, 7)
    async with asyncio.TaskGroup() as group:
        group.create_task(other.run())
        group.create_task(answer.run())
        await asyncio.sleep(60)
        (await parts.model.call("other")).complete()
        call = await parts.model.call("first")
        await asyncio.sleep(6)
        call.say("in time")
        call.complete()
    assert answer.broadcast.phase is Phase.SEALED


@virtual
async def test_an_answer_that_outlasts_its_time_ends_there() -> None:
    """What has been said stays said."""
    parts = Answers()
    answer = parts.queued("first")
    bounded(answer, 7)
    heard = second_choice(answer)
    parts.model.by_hand.add("first")
    async with asyncio.TaskGroup() as group:
        group.create_task(answer.run())
        (await parts.model.call("first")).say("Once upon")
    assert answer.broadcast.phase is Phase.FAILED
    assert answer.broadcast.end is not None
    assert isinstance(answer.broadcast.end.error, StreamTimeout)
    assert (answer.text, heard) == ("Once upon", [])


@virtual
async def test_who_comes_back_during_its_back_off_gets_the_second() -> None:
    """The prompt is the broadcast's, as its back-off is: a task that was given up takes neither along."""
    parts = Answers()
    answer = parts.queued("first")
    second_choice(answer, 30)
    parts.model.errors["first"] = [FirstTokenTimeout()]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(10):
            await answer.run()
    answer.broadcast.admission = None
    await parts.answering.run(answer.broadcast, answer.prompts)
    assert [call.prompt for call in parts.model.calls] == ["first", "second"]
    assert asyncio.get_running_loop().time() >= 30


class Lingering(FakeModel):
    """Its connections take a minute to be put away."""

    @asynccontextmanager
    async def stream(
        self, permit: LlmPermit, body: Mapping[str, Any]
    ) -> AsyncIterator[AsyncIterator[list[Chunk]]]:
        async with super().stream(permit, body) as batches:
            yield batches
            await asyncio.sleep(60)


class Mute(FakeModel):
    """Sends not even headers for a minute, to whoever asks first."""

    async def _connect(self, call: Call) -> None:
        if call.number == 1:
            await asyncio.sleep(60)
        await super()._connect(call)


def played_by(model: FakeModel) -> Answers:
    parts = Answers()
    parts.model = model
    parts.answering = Answering(cast(ModelClient, model), parts.stage, parts.retry, slot_s=5)
    return parts


@virtual
async def test_the_time_of_a_try_begins_with_its_call() -> None:
    """Not with the model's headers: one that hangs sends none."""
    answer = await run_with(played_by(Mute()), lambda each: bounded(each, 7), second_choice)
    assert answer.text == "2: answer to second"


@virtual
async def test_an_answer_that_is_over_is_not_asked_for_again_while_its_connection_is_put_away() -> None:
    """Its time may be over then: the answer is not."""
    parts = played_by(Lingering())
    parts.model.by_hand.add("first")
    answer = parts.queued("first")
    heard = second_choice(answer)
    bounded(answer, 7)
    async with asyncio.TaskGroup() as group:
        group.create_task(answer.run())
        call = await parts.model.call("first")
        call.say("so")
        call.complete()
    assert (answer.broadcast.phase, heard, len(parts.model.calls)) == (Phase.SEALED, [], 1)


@virtual
async def test_a_second_choice_that_could_not_be_asked_in_time_is_not_waited_for() -> None:
    """All models share the slots that a Retry-After pauses: who waits is told why, at once."""
    parts = played_by(FakeModel())
    answer = parts.queued("first")
    heard = second_choice(answer)
    parts.model.errors["first"] = [UpstreamRateLimited(retry_after=20)]
    await answer.run()
    assert (answer.broadcast.phase, heard) == (Phase.FAILED, [])
    assert answer.broadcast.end is not None
    assert isinstance(answer.broadcast.end.error, UpstreamRateLimited)


@virtual
async def test_an_ended_answer_does_not_point_at_its_failed_tries() -> None:
    """They have tracebacks, and these have the answer: only the collector would free it."""
    parts = Answers()
    parts.model.errors["first"] = [UpstreamUnavailable()]
    answer = await run_with(parts)
    assert (answer.broadcast.phase, answer.broadcast.setback) == (Phase.SEALED, None)


@virtual
async def test_an_empty_answer_is_a_failure_while_there_is_something_else_to_ask() -> None:
    """And else it is what the model has said."""
    for provides, text in ((second_choice, "2: answer to second"), (lambda answer: None, "")):
        parts = Answers()
        parts.model.by_hand.add("first")
        answer = parts.queued("first")
        provides(answer)
        async with asyncio.TaskGroup() as group:
            group.create_task(answer.run())
            call = await parts.model.call("first")
            call.open_with_role()
            call.complete()
        assert (answer.broadcast.phase, answer.text) == (Phase.SEALED, text)
