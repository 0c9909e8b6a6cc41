"""The OpenAI SDK for Python: what tests/system/test_openai_wire.py does not ask of it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionFunctionToolParam

from tests.clients.conftest import TOKENS
from tests.fakes.eventually import eventually
from tests.system.client import Client
from tests.system.processes import GatewayProcess, SimulatorProcess
from tests.system.prompts import answer_to, prompt, saying
from tests.system.scene import SOON_S, Start, accepted, calls_of, filled, held, hook_of, together

pytestmark = pytest.mark.anyio

MODEL = "refrain-sim"
TOOLS: list[ChatCompletionFunctionToolParam] = [
    {"type": "function", "function": {"name": "look_up", "strict": True, "parameters": {
        "type": "object", "properties": {}, "additionalProperties": False}}}
]  # fmt: skip


@pytest.fixture
async def sdk(gateway: GatewayProcess) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=gateway.url + "/v1", api_key="any", timeout=60, max_retries=0) as client:
        yield client


async def ask(sdk: AsyncOpenAI, question: str) -> str:
    answer = await sdk.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": question}])
    return answer.choices[0].message.content or ""


async def test_the_accumulating_helper_accepts_every_chunk(
    sdk: AsyncOpenAI, simulator: SimulatorProcess, tag: str
) -> None:
    """Rows 9 and 86: `chat.completions.stream` folds and checks chunks, also those of a cached answer."""
    question = prompt(f"Helper {tag}")
    seen = []
    for _ in range(2):
        async with sdk.chat.completions.stream(
            model=MODEL,
            messages=[{"role": "user", "content": question}],
            stream_options={"include_usage": True},
        ) as stream:
            kinds = [event.type async for event in stream]
            final = await stream.get_final_completion()
        assert kinds.count("content.delta") >= TOKENS
        assert kinds[-1] in ("content.done", "chunk")
        assert final.usage is not None
        assert final.usage.completion_tokens == TOKENS
        seen.append(final.choices[0].message.content)
    assert seen == [answer_to(question, TOKENS)] * 2
    assert calls_of(simulator, question) == 1


async def test_the_helper_folds_tool_calls(sdk: AsyncOpenAI, tag: str) -> None:
    """Row 86: pieces of a tool call arrive with the indices that the SDK folds them by."""
    async with sdk.chat.completions.stream(
        model=MODEL, messages=[{"role": "user", "content": prompt(f"Tool {tag}", tool=1)}], tools=TOOLS
    ) as stream:
        final = await stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls or []
    assert call.function.name == "look_up"
    assert final.choices[0].finish_reason == "tool_calls"


def test_headers_are_there_for_who_asks(gateway: GatewayProcess, tag: str) -> None:
    """Row 86: raw responses show where an answer came from, and its id to cancel it by."""
    with OpenAI(base_url=gateway.url + "/v1", api_key="any", timeout=60) as sdk:
        for came in ("refrain; fwd=miss", "refrain; hit"):
            raw = sdk.chat.completions.with_raw_response.create(
                model=MODEL, messages=[{"role": "user", "content": f"Headers {tag}"}]
            )
            assert raw.headers["cache-status"].startswith(came)
            assert raw.headers["x-refrain-id"].startswith("chat_")
            assert (raw.parse().choices[0].message.content or "").startswith("Simulated answer")


async def test_ten_at_once_are_one_call(sdk: AsyncOpenAI, simulator: SimulatorProcess, tag: str) -> None:
    """Row 22: ten identical calls of one program cost one generation."""
    question = prompt(f"Ten {tag}", hold=tag)

    async def release() -> str:
        await held(simulator, tag)
        simulator.release(tag)
        return answer_to(question, TOKENS)

    texts = await together([*(ask(sdk, question) for _ in range(10)), release()])
    assert set(texts) == {answer_to(question, TOKENS)}
    assert calls_of(simulator, question) == 1


async def test_every_character_arrives(sdk: AsyncOpenAI, tag: str) -> None:
    """Row 46: what would break a careless splitter of lines comes through the SDK's decoder as it was."""
    text = 'one\r\n\ntwo\rthree\u2028\u2029\x85\x0b data: [DONE]\n\n"quoted" \\ 漢字 👩‍🚀'
    question = prompt(f"Nasty {tag}", text=saying(text), cut=2)
    stream = await sdk.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": question}], stream=True
    )
    async with stream:
        chunks = [choice.delta.content or "" async for chunk in stream for choice in chunk.choices]
    assert "".join(chunks) == text
    assert await ask(sdk, question) == text


async def test_leaving_a_stream_stops_the_model(
    sdk: AsyncOpenAI, simulator: SimulatorProcess, tag: str
) -> None:
    """Row 4, as the SDK does it: the end of the block aborts the call within a second."""
    before = simulator.stats()["aborted"]
    stream = await sdk.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": prompt(f"Leave {tag}", stall=2)}], stream=True
    )
    async with stream:
        await anext(aiter(stream))
    await eventually(lambda: simulator.stats()["aborted"] == before + 1, within=SOON_S)


async def test_a_draining_gateway_is_an_error_that_says_when_to_come_back(
    simulator: SimulatorProcess, start: Start, tag: str
) -> None:
    """Row 86: 503 `draining` with Retry-After; the SDK's own retry comes back after it, not before."""
    gateway = start(simulator)
    async with (
        AsyncOpenAI(base_url=gateway.url + "/v1", api_key="any", timeout=60, max_retries=0) as sdk,
        Client(gateway.url) as client,
    ):
        async with asyncio.TaskGroup() as group:
            running = group.create_task(ask(sdk, prompt(f"Running {tag}", hold=tag, hold_after=1)))
            await held(simulator, tag)
            gateway.signal(signal.SIGTERM)

            async def draining() -> bool:
                return (await client.call("GET", "/readyz")).status == 503

            await eventually(draining)
            with pytest.raises(openai.InternalServerError) as caught:
                await ask(sdk, f"Too late {tag}")
            assert (caught.value.status_code, caught.value.code) == (503, "draining")
            wait = int(caught.value.response.headers["retry-after"])
            loop = asyncio.get_running_loop()
            began = loop.time()
            with pytest.raises(openai.InternalServerError):
                await ask(sdk.with_options(max_retries=1), f"Too late {tag}")
            # The gateway's wish is at least a second; without it the SDK comes back after half a second.
            assert loop.time() - began >= 1
            assert wait >= 1
            simulator.release(tag)
        assert running.result().startswith("Simulated answer")


async def test_a_full_queue_is_retried_until_there_is_room(
    simulator: SimulatorProcess, start: Start, tag: str
) -> None:
    """Row 86: `max_retries` alone gets past 429 `queue_full`."""
    gateway = start(simulator, MAX_CONCURRENT_LEADERS=1, QUEUE_SIZE=0, PREPARE_URL=hook_of(simulator))
    async with (
        AsyncOpenAI(base_url=gateway.url + "/v1", api_key="any", timeout=60, max_retries=8) as sdk,
        Client(gateway.url) as client,
        asyncio.TaskGroup() as group,
    ):
        await accepted(client, prompt(f"First {tag}", prepare_hold=tag))
        await filled(gateway, "leaders", 1, 0)
        with pytest.raises(openai.RateLimitError):
            await ask(sdk.with_options(max_retries=0), f"Second {tag}")
        retried = group.create_task(ask(sdk, f"Second {tag}"))
        refused = 'refrain_stage_refused_total{reason="queue_full",stage="leaders"}'
        await eventually(lambda: gateway.metrics()[refused] >= 2)
        simulator.release(tag)
    assert retried.result().startswith("Simulated answer")


async def test_what_cannot_help_is_not_retried(
    sdk: AsyncOpenAI, simulator: SimulatorProcess, tag: str
) -> None:
    """Row 86: x-should-retry: false keeps the SDK from repeating a 502 that will stay one."""
    question = prompt(f"Hopeless {tag}", status=401)
    with pytest.raises(openai.InternalServerError) as caught:
        await ask(sdk.with_options(max_retries=5), question)
    assert caught.value.code == "upstream_auth"
    assert calls_of(simulator, question) == 1
