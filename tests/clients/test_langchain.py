"""LangChain's chat model for the OpenAI wire: invoke, stream, batch, tools, errors and retries."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.clients.conftest import TOKENS
from tests.clients.scripts import outcome
from tests.fakes.eventually import eventually
from tests.system.processes import GatewayProcess, SimulatorProcess
from tests.system.prompts import answer_to, prompt
from tests.system.scene import calls_of

pytestmark = pytest.mark.anyio


async def ask(gateway: GatewayProcess, way: str, question: str, **settings: Any) -> dict[str, Any]:
    """What LangChain made of it."""
    return await outcome("langchain_chat.py", url=gateway.url, way=way, question=question, **settings)


async def test_invoke_and_stream_get_the_same_answer_from_one_call(
    gateway: GatewayProcess, simulator: SimulatorProcess, tag: str
) -> None:
    """Rows 9 and 86: whole, in pieces, sync and async, with the usage that chains count."""
    question = prompt(f"From a chain {tag}")
    told = [await ask(gateway, way, question) for way in ("invoke", "stream", "astream")]
    assert {one["text"] for one in told} == {answer_to(question, TOKENS)}
    assert told[0]["finish"] == told[1]["finish"] == "stop"
    assert told[0]["usage"]["output_tokens"] == told[1]["usage"]["output_tokens"] == TOKENS
    assert told[1]["pieces"] >= TOKENS
    assert calls_of(simulator, question) == 1


async def test_a_batch_of_the_same_question_is_one_call(
    gateway: GatewayProcess, simulator: SimulatorProcess, tag: str
) -> None:
    """Row 22: LangChain's threads ask ten times at once, the model answers once."""
    question = prompt(f"Ten threads {tag}", hold=tag)
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(ask(gateway, "batch", question, callers=10))
        await eventually(lambda: gateway.get("/pipeline")["totals"]["subscribers"] == 10, within=30)
        simulator.release(tag)
    assert asked.result()["texts"] == [answer_to(question, TOKENS)] * 10
    assert calls_of(simulator, question) == 1


async def test_bound_tools_are_called(gateway: GatewayProcess, tag: str) -> None:
    """Row 86: agents depend on tool calls, streamed in pieces or whole."""
    told = await ask(gateway, "bind_tools", prompt(f"Tool of a chain {tag}", tool=1))
    assert told == {"whole": ["look_up"], "streamed": ["look_up"]}


@pytest.mark.parametrize(
    ("scene", "error", "code"),
    [
        ({"status": 404, "code": "model_not_found"}, "OpenAIModelNotFoundError", "model_not_found"),
        ({"status": 422}, "UnprocessableEntityError", "upstream_rejected"),
        ({"truncate": 3}, "APIError", "upstream_truncated"),
    ],
)
async def test_failures_reach_the_chain_by_class_and_code(
    gateway: GatewayProcess, tag: str, scene: dict[str, object], error: str, code: str
) -> None:
    """Rows 47 and 86: a chain can tell what to repeat, what to shorten and what to give up."""
    told = await ask(gateway, "stream", prompt(f"Wrong {tag}", **scene))
    assert (told["error"], told["code"]) == (error, code)


@pytest.mark.parametrize("way", ["invoke", "stream"])
async def test_a_prompt_that_is_too_long_is_known_as_such(
    gateway: GatewayProcess, tag: str, way: str
) -> None:
    """Row 86: LangChain tells it by the words of the message, and agents shorten their history for it."""
    question = prompt(f"Too long {tag}", status=400, code="context_length_exceeded")
    told = await ask(gateway, way, question)
    assert (told["error"], told["code"]) == ("OpenAIContextOverflowError", "context_length_exceeded")


async def test_its_retries_get_past_a_passing_failure(
    gateway: GatewayProcess, simulator: SimulatorProcess, tag: str
) -> None:
    """Row 86: `max_retries` of the chat model is the SDK's, and works with our statuses."""
    question = prompt(f"Stumble {tag}", status=500, times=1)
    told = await ask(gateway, "invoke", question, retries=2)
    assert told["text"] == answer_to(question, TOKENS)
    assert calls_of(simulator, question) == 2
