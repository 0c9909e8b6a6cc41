"""LiteLLM's proxy in front of Refrain, and Refrain in front of LiteLLM's proxy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from tests.clients.conftest import TOKENS
from tests.clients.litellm_proxy import KEY, litellm
from tests.fakes.eventually import eventually
from tests.servers import free_port
from tests.system.client import Client, text_of
from tests.system.processes import GatewayProcess, SimulatorProcess
from tests.system.prompts import answer_to, prompt
from tests.system.scene import calls_of, held, together

pytestmark = pytest.mark.anyio

MODEL = "refrain-sim"


@pytest.fixture(scope="module")
def behind_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def outer(simulator: SimulatorProcess, behind_port: int) -> Iterator[GatewayProcess]:
    """A gateway whose upstream is LiteLLM."""
    process = GatewayProcess(f"http://127.0.0.1:{behind_port}/v1", OPENAI_API_KEY=KEY)
    yield process
    process.kill()


@pytest.fixture(scope="module")
def proxy(
    tmp_path_factory: pytest.TempPathFactory,
    behind_port: int,
    gateway: GatewayProcess,
    simulator: SimulatorProcess,
) -> Iterator[str]:
    """One LiteLLM for both sides: `through` leads to a gateway, the model's own name to the model."""
    models = {"through": gateway.url + "/v1", MODEL: simulator.base_url}
    with litellm(tmp_path_factory.mktemp("litellm"), behind_port, models) as url:
        yield url


@pytest.fixture
async def sdk(proxy: str) -> AsyncIterator[AsyncOpenAI]:
    """A client of LiteLLM."""
    async with AsyncOpenAI(base_url=proxy, api_key=KEY, timeout=60, max_retries=0) as client:
        yield client


async def whole(sdk: AsyncOpenAI, question: str, **fields: Any) -> str:
    answer = await sdk.chat.completions.create(
        model="through", messages=[{"role": "user", "content": question}], **fields
    )
    return answer.choices[0].message.content or ""


async def streamed(sdk: AsyncOpenAI, question: str) -> str:
    chunks = await sdk.chat.completions.create(
        model="through", messages=[{"role": "user", "content": question}], stream=True
    )
    async with chunks:
        return "".join([choice.delta.content or "" async for chunk in chunks for choice in chunk.choices])


async def test_in_front_it_streams_and_answers_whole_from_one_call(
    sdk: AsyncOpenAI, simulator: SimulatorProcess, tag: str
) -> None:
    """Rows 9 and 86: what LiteLLM adds to a request does not keep the second from being a hit."""
    question = prompt(f"Through a proxy {tag}")
    texts = [await whole(sdk, question), await streamed(sdk, question)]
    assert texts == [answer_to(question, TOKENS)] * 2
    assert calls_of(simulator, question) == 1


async def test_in_front_two_at_once_share_one_call(
    sdk: AsyncOpenAI, gateway: GatewayProcess, simulator: SimulatorProcess, tag: str
) -> None:
    """Row 22: LiteLLM deduplicates nothing by itself; what it sends is still the same question to us."""
    question = prompt(f"Two through a proxy {tag}", hold=tag, hold_after=1)

    async def release() -> str:
        await eventually(lambda: gateway.get("/pipeline")["totals"]["subscribers"] == 3, within=30)
        simulator.release(tag)
        return answer_to(question, TOKENS)

    texts = await together(
        [streamed(sdk, question), streamed(sdk, question), whole(sdk, question), release()]
    )
    assert set(texts) == {answer_to(question, TOKENS)}
    assert calls_of(simulator, question) == 1


async def test_in_front_a_failure_keeps_its_class(sdk: AsyncOpenAI, tag: str) -> None:
    """Rows 47 and 86: LiteLLM's callers see what we said, not an internal error of two proxies."""
    for scene, kind in (
        ({"status": 404, "code": "model_not_found"}, openai.NotFoundError),
        ({"status": 400, "code": "invalid_value"}, openai.BadRequestError),
    ):
        with pytest.raises(kind):
            await whole(sdk, prompt(f"Wrong {tag}", **scene))
    with pytest.raises(openai.APIError):
        await streamed(sdk, prompt(f"Broken {tag}", truncate=3))


async def test_in_front_a_prompt_that_is_too_long_is_known_as_such(sdk: AsyncOpenAI, tag: str) -> None:
    """Row 86: LiteLLM tells it by the words of the message; its context-window fallbacks depend on it."""
    question = prompt(f"Too long {tag}", status=400, code="context_length_exceeded")
    with pytest.raises(openai.BadRequestError, match="ContextWindowExceededError"):
        await whole(sdk, question)


async def test_behind_it_is_a_model_like_any_other(
    proxy: str, outer: GatewayProcess, simulator: SimulatorProcess, tag: str
) -> None:
    """Rows 9, 22 and 86: with LiteLLM as the upstream, twins share, hits hit, and readiness is green."""
    question = prompt(f"Behind {tag}", hold=tag, hold_after=1)
    async with Client(outer.url) as client:
        assert MODEL in [model["id"] for model in (await client.call("GET", "/v1/models")).json["data"]]

        async def release() -> None:
            await held(simulator, tag)
            await eventually(lambda: outer.get("/pipeline")["totals"]["subscribers"] == 2)
            simulator.release(tag)

        async with asyncio.TaskGroup() as group:
            first = group.create_task(client.chunks(question, model=MODEL))
            second = group.create_task(client.complete(question, model=MODEL))
            group.create_task(release())
        _, frames = first.result()
        assert frames[-1] == "[DONE]"
        assert text_of(frames) == answer_to(question, TOKENS)
        answer = second.result().json
        assert answer["choices"][0]["message"]["content"] == answer_to(question, TOKENS)
        assert answer["usage"]["completion_tokens"] == TOKENS
        hit = await client.complete(question, model=MODEL)
        assert hit.headers["cache-status"].startswith("refrain; hit")
        assert (await client.call("GET", "/readyz")).json["components"]["upstream"] == "ok"
    assert calls_of(simulator, question) == 1


async def test_behind_its_errors_are_told_as_a_models(
    proxy: str, outer: GatewayProcess, simulator: SimulatorProcess, tag: str
) -> None:
    """Rows 47 and 86: LiteLLM's refusals and its broken streams are neither hidden nor cached."""
    async with Client(outer.url) as client:
        broken = await client.complete(
            prompt(f"Broken {tag}", status=404, code="model_not_found"), model=MODEL
        )
        assert broken.status == 404
        unknown = await client.complete(f"Hello {tag}", model="no-such-model")
        assert unknown.status in (400, 404)
        async with asyncio.TaskGroup() as group:
            half = group.create_task(
                client.chunks(prompt(f"Half {tag}", hold=tag, hold_after=2, reset=3), model=MODEL)
            )
            await eventually(lambda: [one for one in outer.get("/pipeline")["broadcasts"] if one["events"]])
            simulator.release(tag)
        _, frames = half.result()
        assert "error" in frames[-1]
        assert "[DONE]" not in frames


async def test_behind_a_cancel_goes_through_to_the_model(
    proxy: str, outer: GatewayProcess, simulator: SimulatorProcess, tag: str
) -> None:
    """Row 4: LiteLLM passes the abort on, so a Stop button still stops the model."""
    before = simulator.stats()["aborted"]
    async with Client(outer.url) as client:
        chat = (await client.submit(prompt(f"Stop {tag}", hold=tag, hold_after=2), model=MODEL)).json
        async with client.listening(chat["stream_url"]) as (_, events, _reader):
            async for event in events:
                if event.name == "delta":
                    break
            assert (await client.cancel(chat["id"])).status == 200
        await eventually(lambda: simulator.stats()["aborted"] == before + 1)
