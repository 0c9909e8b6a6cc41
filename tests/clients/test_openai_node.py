"""The OpenAI SDK for Node, unmodified: streamed and whole, with its helper, its errors and its retries."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.clients.conftest import TOKENS
from tests.clients.scripts import outcome
from tests.fakes.eventually import eventually
from tests.system.client import Client
from tests.system.processes import GatewayProcess, SimulatorProcess
from tests.system.prompts import answer_to, prompt
from tests.system.scene import SOON_S, Start, accepted, at_rest, calls_of, filled, hook_of

pytestmark = pytest.mark.anyio

TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}


async def ask(gateway: GatewayProcess, way: str, question: str, **settings: Any) -> dict[str, Any]:
    """What the SDK made of it."""
    return await outcome("openai.mjs", url=gateway.url, way=way, question=question, **settings)


async def test_every_way_of_asking_gets_the_same_answer_from_one_call(
    gateway: GatewayProcess, simulator: SimulatorProcess, tag: str
) -> None:
    """Rows 9 and 86: whole, streamed and by the SDK's own accumulator; usage only where it was asked for."""
    question = prompt(f"From Node {tag}")
    whole = await ask(gateway, "whole", question)
    assert (whole["text"], whole["finish"]) == (answer_to(question, TOKENS), "stop")
    assert whole["usage"]["completion_tokens"] == TOKENS
    assert whole["status"].startswith("refrain; fwd=miss")
    for asked in (False, True):
        fields = {"stream_options": {"include_usage": asked}}
        streamed = await ask(gateway, "streamed", question, fields=fields)
        assert (streamed["text"], streamed["finish"]) == (whole["text"], "stop")
        assert streamed["usage"] == ([whole["usage"]] if asked else [])
    helper = await ask(gateway, "helper", question, fields={"stream_options": {"include_usage": True}})
    assert helper["text"] == whole["text"]
    assert helper["usage"]["total_tokens"] == whole["usage"]["total_tokens"]
    assert (await ask(gateway, "whole", question))["status"].startswith("refrain; hit")
    assert calls_of(simulator, question) == 1


async def test_tools_pass_through(gateway: GatewayProcess, tag: str) -> None:
    """Row 86: the model's tool call arrives whole, and in pieces that join to the same."""
    question = prompt(f"Tool from Node {tag}", tool=1)
    whole = await ask(gateway, "whole", question, fields={"tools": [TOOL]})
    assert whole["finish"] == "tool_calls"
    (call,) = whole["calls"]
    assert call["name"] == "look_up"
    streamed = await ask(gateway, "streamed", question, fields={"tools": [TOOL]})
    assert streamed["calls"] == call["arguments"]
    assert streamed["finish"] == "tool_calls"


async def test_ten_at_once_are_one_call(
    gateway: GatewayProcess, simulator: SimulatorProcess, tag: str
) -> None:
    """Row 22: ten identical streams from one Node process cost one generation."""
    question = prompt(f"Ten of us {tag}", hold=tag, hold_after=1)
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(ask(gateway, "together", question, callers=10))
        await eventually(lambda: gateway.get("/pipeline")["totals"]["subscribers"] == 10)
        simulator.release(tag)
    assert asked.result()["texts"] == [answer_to(question, TOKENS)] * 10
    assert calls_of(simulator, question) == 1


@pytest.mark.parametrize(
    ("scene", "name", "code"),
    [
        ({"status": 400, "code": "context_length_exceeded"}, "BadRequestError", "context_length_exceeded"),
        ({"status": 404, "code": "model_not_found"}, "NotFoundError", "model_not_found"),
        ({"status": 401}, "InternalServerError", "upstream_auth"),
        ({"truncate": 3}, "APIError", "upstream_truncated"),
    ],
)
async def test_failures_are_the_sdks_own_errors(
    gateway: GatewayProcess, tag: str, scene: dict[str, object], name: str, code: str
) -> None:
    """Rows 47 and 86: by class and code, before the first token and in the middle of a stream."""
    told = await ask(gateway, "streamed", prompt(f"Wrong {tag}", **scene))
    assert (told["error"], told["code"]) == (name, code)
    assert "truncate" in scene or told["request"]


async def test_leaving_the_loop_stops_the_model(
    gateway: GatewayProcess, simulator: SimulatorProcess, tag: str
) -> None:
    """Row 4, as Node does it: a `break` out of the stream aborts the call."""
    before = simulator.stats()["aborted"]
    await ask(gateway, "left", prompt(f"Leave {tag}", stall=2))
    await eventually(lambda: simulator.stats()["aborted"] == before + 1, within=SOON_S)
    await at_rest(gateway)


async def test_a_full_queue_is_a_rate_limit_error_and_its_retries_succeed(
    simulator: SimulatorProcess, start: Start, tag: str
) -> None:
    """Row 86: 429 with Retry-After is obeyed without a line of code; nothing is left behind."""
    gateway = start(simulator, MAX_CONCURRENT_LEADERS=1, QUEUE_SIZE=0, PREPARE_URL=hook_of(simulator))
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        await accepted(client, prompt(f"First {tag}", prepare_hold=tag))
        await filled(gateway, "leaders", 1, 0)
        refused = await ask(gateway, "whole", f"Second {tag}")
        assert (refused["error"], refused["code"]) == ("RateLimitError", "queue_full")
        retried = group.create_task(ask(gateway, "retried", f"Second {tag}"))
        count = 'refrain_stage_refused_total{reason="queue_full",stage="leaders"}'
        await eventually(lambda: gateway.metrics()[count] >= 2)
        simulator.release(tag)
    assert retried.result()["text"].startswith("Simulated answer")


async def test_models_are_listed(gateway: GatewayProcess) -> None:
    """Row 86: what a client asks first."""
    assert (await ask(gateway, "models", ""))["models"] == ["refrain-sim"]
