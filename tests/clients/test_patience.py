"""A model that says nothing for long: no client gives up, and none takes a comment for data."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL, PIPE

import pytest
from openai import AsyncOpenAI
from playwright.async_api import Browser  # type: ignore[import-not-found]

from tests.clients.conftest import TOKENS
from tests.clients.listeners import Listen, fetch_event_source, node_eventsource, of_browser
from tests.clients.scripts import outcome
from tests.system.client import Client
from tests.system.processes import GatewayProcess, SimulatorProcess
from tests.system.prompts import answer_to, prompt
from tests.system.scene import accepted, calls_of

pytestmark = pytest.mark.anyio

MODEL = "refrain-sim"


async def curl_until_pings(url: str, simulator: SimulatorProcess, hold: str) -> str:
    """What curl shows; the model is let go after the second keepalive."""
    process = await asyncio.create_subprocess_exec("curl", "-sN", url, stdout=PIPE, stdin=DEVNULL)
    assert process.stdout is not None
    shown, pings = "", 0
    async with asyncio.timeout(60):
        async for line in process.stdout:
            shown += line.decode()
            pings += line == b": p\n"
            if pings == 1:
                simulator.release(hold)
        await process.wait()
    assert pings >= 1
    return shown


async def sdk(gateway: GatewayProcess, question: str) -> str:
    async with AsyncOpenAI(base_url=gateway.url + "/v1", api_key="any", timeout=60) as client:
        stream = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": question}], stream=True
        )
        async with stream:
            return "".join([choice.delta.content or "" async for chunk in stream for choice in chunk.choices])


async def test_ten_seconds_of_silence_disturb_no_client(
    gateway: GatewayProcess, simulator: SimulatorProcess, browser: Browser, tag: str
) -> None:
    """Row 45: keepalives come on every stream; SDKs, EventSources and a browser read on regardless."""
    question = prompt(f"Patience {tag}", hold=tag)

    async def event_source(listen: Listen) -> str:
        async with Client(gateway.url) as client:
            chat = await accepted(client, question, model=MODEL)
            async with listen(url(chat)) as listener:
                await listener.until_closed()
        assert listener.end["event"] == "done"
        return listener.text

    def url(chat: dict[str, str]) -> str:
        return gateway.url + chat["stream_url"]

    async def script(name: str, way: str) -> str:
        told = await outcome(name, url=gateway.url, way=way, question=question)
        text: str = told["text"]
        return text

    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        chat = await accepted(client, question, model=MODEL)
        tasks = [
            group.create_task(script("openai.mjs", "streamed")),
            group.create_task(script("langchain_chat.py", "stream")),
            group.create_task(sdk(gateway, question)),
            *(
                group.create_task(event_source(listen))
                for listen in (node_eventsource, fetch_event_source, of_browser(browser))
            ),
        ]
        shown = group.create_task(curl_until_pings(url(chat), simulator, tag))
    assert [task.result() for task in tasks] == [answer_to(question, TOKENS)] * len(tasks)
    assert "event: done" in shown.result()
    assert calls_of(simulator, question) == 1
