"""The OpenAI wire, spoken by OpenAI's own Python SDK: it works unmodified, with its errors and retries."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionChunk, ChatCompletionFunctionToolParam

from tests.fakes.eventually import eventually
from tests.system.client import Client
from tests.system.crew import crew, pinned
from tests.system.processes import GatewayProcess, SimulatorProcess
from tests.system.prompts import answer_to, prompt
from tests.system.scene import Simulate, Start, accepted, at_rest, calls_of, filled, held, hook_of, together

pytestmark = pytest.mark.anyio

MODEL = "refrain-sim"
TOKENS = 12
TOOLS: list[ChatCompletionFunctionToolParam] = [
    {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
]


@pytest.fixture
def simulator(simulate: Simulate) -> SimulatorProcess:
    return simulate(ttft=0, tps=0, tokens=TOKENS)


@pytest.fixture
def gateway(simulator: SimulatorProcess, start: Start) -> GatewayProcess:
    return start(simulator, MAX_CONCURRENT_LLM_STREAMS=2)


@pytest.fixture
def sdk(gateway: GatewayProcess) -> Iterator[OpenAI]:
    with OpenAI(base_url=gateway.url + "/v1", api_key="any", timeout=30) as client:
        yield client


@pytest.fixture
async def sdk_async(gateway: GatewayProcess) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=gateway.url + "/v1", api_key="any", timeout=30) as client:
        yield client


def said(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


@pytest.mark.parametrize("habit", [{}, {"usage_inline": 1}])
def test_the_sync_sdk_asks_streamed_and_whole(
    sdk: OpenAI, simulator: SimulatorProcess, habit: dict[str, object]
) -> None:
    """Row 86: an unmodified client gets the answer, its finish reason and, only when asked, the usage."""
    question = prompt("Sing!", **habit)
    whole = sdk.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": question}])
    assert whole.choices[0].message.content == answer_to(question, TOKENS)
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage is not None
    assert whole.usage.completion_tokens == TOKENS
    for asked in (True, False):
        with sdk.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": question}],
            stream=True,
            stream_options={"include_usage": asked},
        ) as stream:
            chunks = list(stream)
        assert said(chunks) == whole.choices[0].message.content
        assert [chunk.usage for chunk in chunks if chunk.usage] == ([whole.usage] if asked else [])
        extra = [chunk for chunk in chunks if not chunk.choices]
        assert extra == (chunks[-1:] if asked and not habit else [])
        assert {chunk.id for chunk in chunks} == {whole.id}
    assert simulator.stats()["calls"] == 1


async def test_the_async_sdk_streams_as_the_model_speaks(
    sdk_async: AsyncOpenAI, simulator: SimulatorProcess
) -> None:
    """Row 86: tokens arrive while the model is still speaking, and the limit on streams holds."""
    questions = [prompt(f"Verse {number}", hold="verse", hold_after=3) for number in range(6)]
    first_token = asyncio.Semaphore(0)

    async def ask(question: str) -> str:
        text = ""
        stream = await sdk_async.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": question}], stream=True
        )
        async with stream:
            async for chunk in stream:
                text += said([chunk])
                if text == answer_to(question, 3):
                    first_token.release()
        return text

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        asked = [group.create_task(ask(question)) for question in questions]
        await held(simulator, "verse", 2)
        await first_token.acquire()
        await first_token.acquire()
        simulator.release("verse")
    assert [task.result() for task in asked] == [answer_to(question, TOKENS) for question in questions]
    assert simulator.stats()["peak"] == 2


async def test_a_streamed_and_a_whole_caller_share_one_call(
    sdk_async: AsyncOpenAI, gateway: GatewayProcess, simulator: SimulatorProcess
) -> None:
    """Row 101: the form of the reply is no part of the question; a native caller shares as well."""
    for first_streams in (True, False):
        question = prompt(f"Which form? {first_streams}", hold=f"form-{first_streams}", hold_after=2)

        async def ask(*, stream: bool, question: str = question) -> str:
            if not stream:
                whole = await sdk_async.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": question}]
                )
                return whole.choices[0].message.content or ""
            chunks = await sdk_async.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": question}], stream=True
            )
            async with chunks:
                return said([chunk async for chunk in chunks])

        async with Client(gateway.url) as client, asyncio.timeout(60), asyncio.TaskGroup() as group:
            leader = group.create_task(ask(stream=first_streams))
            await held(simulator, f"form-{first_streams}")
            follower = group.create_task(ask(stream=not first_streams))
            native = await accepted(client, question, model=MODEL)
            assert native["role"] == "follower"
            streaming = group.create_task(client.stream(native["stream_url"]))
            await eventually(lambda: gateway.get("/pipeline")["totals"]["subscribers"] == 3)
            simulator.release(f"form-{first_streams}")
        texts = {leader.result(), follower.result(), streaming.result().text}
        assert texts == {answer_to(question, TOKENS)}
        assert calls_of(simulator, question) == 1


def test_tools_reasoning_and_usage_pass_through_the_sdk(sdk: OpenAI) -> None:
    """Row 86: what the model sends beside text reaches the SDK's own objects, streamed and whole alike."""
    question = prompt("Look it up", tool=1, reasoning=1, cut=3)
    whole = sdk.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": question}], tools=TOOLS
    )
    message = whole.choices[0].message
    assert whole.choices[0].finish_reason == "tool_calls"
    assert message.tool_calls is not None
    call = message.tool_calls[0]
    assert call.type == "function"
    assert call.function.name == "look_up"
    assert json.loads(call.function.arguments).keys() == {"query"}
    assert message.model_extra == {"reasoning_content": "Let me think about that."}
    with sdk.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": question}],
        tools=TOOLS,
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        chunks = list(stream)
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    pieces = [piece for delta in deltas for piece in delta.tool_calls or ()]
    assert pieces[0].id == call.id
    joined = "".join(piece.function.arguments or "" for piece in pieces if piece.function)
    assert joined == call.function.arguments
    thought = "".join((delta.model_extra or {}).get("reasoning_content", "") for delta in deltas)
    assert thought == "Let me think about that."
    assert chunks[-1].usage == whole.usage
    assert sdk.models.list().data[0].id == MODEL


REFUSALS = [
    (
        prompt("Bad", status=400, code="context_length_exceeded"),
        openai.BadRequestError,
        "context_length_exceeded",
    ),
    (prompt("Missing", status=404, code="model_not_found"), openai.NotFoundError, "model_not_found"),
    (prompt("Wrong", status=422), openai.UnprocessableEntityError, "upstream_rejected"),
    (prompt("Ours", status=401), openai.InternalServerError, "upstream_auth"),
    (prompt("Garbage", garbage=1), openai.InternalServerError, "upstream_bad_response"),
    ("   ", openai.UnprocessableEntityError, "invalid_request"),
]


@pytest.mark.parametrize("stream", [False, True])
def test_every_failure_is_the_sdks_own_exception_and_hopeless_ones_are_not_retried(
    sdk: OpenAI, gateway: GatewayProcess, simulator: SimulatorProcess, stream: bool
) -> None:
    """Row 86: a failure before the first token has its own status, streamed or not, and a code to act on."""
    client = sdk.with_options(max_retries=0)
    for question, kind, code in REFUSALS:
        with pytest.raises(kind) as caught:
            client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": question}], stream=stream
            )
        assert caught.value.code == code
        assert caught.value.request_id or caught.value.response.headers["x-request-id"]
    before = simulator.stats()["calls"]
    with pytest.raises(openai.InternalServerError):
        sdk.with_options(max_retries=5).chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": prompt("Hopeless", status=401)}], stream=stream
        )
    assert simulator.stats()["calls"] == before + 1
    with pytest.raises(openai.NotFoundError) as missing:
        client.get("/threads", cast_to=object)
    assert missing.value.body == {"message": missing.value.body["message"], **NOT_FOUND}  # type: ignore[index]


NOT_FOUND = {"type": "invalid_request_error", "param": None, "code": "not_found"}


def test_a_failure_in_the_middle_of_a_stream_raises_in_the_sdk(sdk: OpenAI) -> None:
    """Row 86: after the 200 an error frame ends the stream; the SDK must not take it for an end."""
    question = prompt("Break", truncate=4)
    shown: list[ChatCompletionChunk] = []
    with (
        sdk.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": question}], stream=True
        ) as stream,
        pytest.raises(openai.APIError) as caught,
    ):
        shown.extend(chunk for chunk in stream)
    assert said(shown) == answer_to(question, 4)
    assert caught.value.code == "upstream_truncated"


def test_a_wrong_key_is_the_sdks_authentication_error(simulator: SimulatorProcess, start: Start) -> None:
    """Row 86: keys of ours are told from the upstream's, which are never the caller's fault."""
    gateway = start(simulator, API_KEYS="one:key-of-tenant-one")
    for key, works in (("key-of-tenant-one", True), ("another", False)):
        with OpenAI(base_url=gateway.url + "/v1", api_key=key, timeout=30) as sdk:
            if works:
                assert sdk.models.list().data[0].id == MODEL
                continue
            with pytest.raises(openai.AuthenticationError) as caught:
                sdk.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hi"}])
            assert caught.value.code == "invalid_api_key"


def test_the_sdks_own_retry_gets_past_a_passing_upstream_error(
    sdk: OpenAI, simulator: SimulatorProcess
) -> None:
    """Row 86: a 500 that the gateway does not repeat itself is repeated by the SDK, and then succeeds."""
    question = prompt("Stumble", status=500, times=1)
    answer = sdk.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": question}])
    assert answer.choices[0].message.content == answer_to(question, TOKENS)
    assert calls_of(simulator, question) == 2


async def test_the_sdks_own_retry_gets_past_a_full_queue(simulator: SimulatorProcess, start: Start) -> None:
    """Row 86: 429 with Retry-After is what the SDK understands; without retries it is a RateLimitError."""
    gateway = start(simulator, MAX_CONCURRENT_LEADERS=1, QUEUE_SIZE=0, PREPARE_URL=hook_of(simulator))
    async with (
        AsyncOpenAI(base_url=gateway.url + "/v1", api_key="any", timeout=30, max_retries=0) as once,
        pinned(gateway, list(crew(gateway).values())) as clients,
    ):
        await together(accepted(one, prompt(f"1 {n}", prepare_hold="retry")) for n, one in enumerate(clients))
        await filled(gateway, "leaders", len(clients), 0)
        with pytest.raises(openai.RateLimitError) as caught:
            await once.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Second"}])
        assert caught.value.code == "queue_full"
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            retried = group.create_task(
                once.with_options(max_retries=8).chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": "Second"}]
                )
            )
            refused = 'refrain_stage_refused_total{reason="queue_full",stage="leaders"}'
            await eventually(lambda: gateway.metrics()[refused] >= 2)
            simulator.release("retry")
        assert (retried.result().choices[0].message.content or "").startswith("Simulated answer")
        await eventually(lambda: gateway.stage("leaders")["in_use"] == 0)


async def test_leaving_the_sdks_stream_aborts_the_call(
    sdk_async: AsyncOpenAI, gateway: GatewayProcess, simulator: SimulatorProcess
) -> None:
    """Row 86: an OpenAI caller is interested as long as its connection, streamed or waiting for the whole."""
    stream = await sdk_async.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": prompt("Leave", hold="leave", hold_after=2)}],
        stream=True,
    )
    async with stream:
        await anext(aiter(stream))
    await eventually(lambda: simulator.stats()["aborted"] == 1)
    with pytest.raises(openai.APITimeoutError):
        await sdk_async.with_options(timeout=0.5, max_retries=0).chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": prompt("Give up", hang=1)}]
        )
    await eventually(lambda: simulator.stats()["aborted"] == 2)
    await at_rest(gateway)
