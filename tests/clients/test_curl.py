"""curl, with the flags of docs/clients.md: the wire is plain enough for a shell."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import DEVNULL, PIPE

import pytest

from tests.clients.conftest import TOKENS
from tests.fakes.eventually import eventually
from tests.system.client import text_of
from tests.system.processes import GatewayProcess, SimulatorProcess
from tests.system.prompts import answer_to, prompt
from tests.system.scene import SOON_S, calls_of, held, together
from tests.system.sse import Event, Reader

pytestmark = pytest.mark.anyio

JSON = ("-H", "content-type: application/json", "-d")


async def curl(*arguments: str) -> str:
    """What it prints."""
    process = await asyncio.create_subprocess_exec(
        "curl", "-sN", "--max-time", "60", *arguments, stdout=PIPE, stdin=DEVNULL
    )
    assert process.stdout is not None
    shown = (await process.stdout.read()).decode()
    assert await process.wait() == 0
    return shown


def events(shown: str) -> list[Event]:
    return Reader().feed(shown.encode())


def text(some: list[Event]) -> str:
    return "".join(event.json["text"] for event in some if event.name == "delta")


async def test_submit_watch_ask_and_cancel(
    gateway: GatewayProcess, simulator: SimulatorProcess, tag: str
) -> None:
    """Rows 1 to 4: the whole life of a chat in four commands; the cancelled one stops the model."""
    question = prompt(f"By hand {tag}", hold=tag, hold_after=2)
    chat = json.loads(await curl(gateway.url + "/chat", *JSON, json.dumps({"message": question})))
    assert chat["role"] == "leader"
    before = simulator.stats()["aborted"]

    async def cancel() -> str:
        await held(simulator, tag)
        record = json.loads(await curl(f"{gateway.url}/chat/{chat['id']}"))
        assert (record["status"], record["text"]) == ("streaming", answer_to(question, 2))
        return await curl("-X", "POST", f"{gateway.url}/chat/{chat['id']}/cancel")

    shown, cancelled = await together([curl(gateway.url + chat["stream_url"]), cancel()])
    assert json.loads(cancelled)["status"] == "cancelled"
    assert text(events(shown)) == answer_to(question, 2)
    assert events(shown)[-1].name == "cancelled"
    await eventually(lambda: simulator.stats()["aborted"] == before + 1, within=SOON_S)


async def test_a_stream_goes_on_from_any_id(gateway: GatewayProcess, tag: str) -> None:
    """Row 43: `Last-Event-ID` or `after` in the address gives exactly the rest, and the end 204."""
    question = prompt(f"Resume by hand {tag}")
    chat = json.loads(await curl(gateway.url + "/chat", *JSON, json.dumps({"message": question})))
    url = gateway.url + chat["stream_url"]
    whole = events(await curl(url))
    last = whole[-1]
    cursor = last.id.partition("-")[0] + "-5"
    rest = answer_to(question, TOKENS).removeprefix(answer_to(question, 5))
    assert text(events(await curl(url, "-H", f"Last-Event-ID: {cursor}"))) == rest
    assert text(events(await curl(f"{url}&after={cursor}"))) == rest
    assert await curl(url, "-H", f"Last-Event-ID: {last.id}", "-o", "-", "-w", "%{http_code}") == "204"


async def test_the_openai_wire_by_hand(
    gateway: GatewayProcess, simulator: SimulatorProcess, tag: str
) -> None:
    """Rows 9 and 86: streamed to [DONE], then the same answer whole, out of the cache."""
    question = prompt(f"Wire by hand {tag}")
    body = {"messages": [{"role": "user", "content": question}]}
    url = gateway.url + "/v1/chat/completions"
    frames = [event.data for event in events(await curl(url, *JSON, json.dumps({**body, "stream": True})))]
    assert frames[-1] == "[DONE]"
    assert text_of([json.loads(frame) for frame in frames[:-1]]) == answer_to(question, TOKENS)
    whole = json.loads(await curl(url, *JSON, json.dumps(body)))
    assert whole["choices"][0]["message"]["content"] == answer_to(question, TOKENS)
    assert calls_of(simulator, question) == 1


async def test_a_broken_answer_is_told_on_both_wires(gateway: GatewayProcess, tag: str) -> None:
    """Row 47: the last thing on the wire says that it is not the end of the answer."""
    question = prompt(f"Broken by hand {tag}", truncate=3)
    body = {"messages": [{"role": "user", "content": question}], "stream": True}
    shown = events(await curl(gateway.url + "/v1/chat/completions", *JSON, json.dumps(body)))
    assert json.loads(shown[-1].data)["error"]["code"] == "upstream_truncated"
    chat = json.loads(await curl(gateway.url + "/chat", *JSON, json.dumps({"message": question})))
    native = events(await curl(gateway.url + chat["stream_url"]))
    assert (native[-1].name, native[-1].json["code"]) == ("failed", "upstream_truncated")
