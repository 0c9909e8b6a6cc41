"""A conversation with a real gateway: what each turn was asked with can be told from its answer."""

from __future__ import annotations

from typing import Any

from tests.fakes.eventually import eventually
from tests.system.client import Client, Reply, Stream
from tests.system.prompts import answer_to
from upstream.simulator.answers import answer_tokens

TOKENS = 6


async def say(client: Client, message: str, conversation: str = "c", **fields: Any) -> Any:
    """Submit what must be admitted; the body of the 202."""
    reply = await client.submit(message, conversation_id=conversation, **fields)
    assert reply.status == 202, reply.body
    return reply.json


async def answered(client: Client, message: str, conversation: str = "c", **fields: Any) -> Stream:
    """A whole turn, and until it is kept."""
    turn = await say(client, message, conversation, **fields)
    stream = await client.stream(turn["stream_url"])
    await kept(client, turn["id"], conversation)
    return stream


async def kept(client: Client, id: str, conversation: str = "c") -> None:
    """Until the history has it."""

    async def there() -> bool:
        return id in [turn["id"] for turn in (await history(client, conversation))["turns"]]

    await eventually(there)


async def show(client: Client, conversation: str = "c") -> Reply:
    return await client.call("GET", f"/conversations/{conversation}")


async def history(client: Client, conversation: str = "c") -> Any:
    """What is shown of it; empty while there is nothing."""
    reply = await show(client, conversation)
    assert reply.status in (200, 404), reply.body
    return reply.json if reply.status == 200 else {"turns": [], "running": None, "waiting": []}


async def idle(client: Client, conversation: str = "c") -> None:
    """Until nobody stands in its line."""

    async def nobody() -> bool:
        seen = await history(client, conversation)
        return seen["running"] is None and seen["waiting"] == []

    await eventually(nobody, within=20.0)


def answers(*questions: str, tokens: int = TOKENS) -> list[str]:
    """What the simulated model says to these, one after the other, if each was asked with all before it."""
    messages: list[dict[str, str]] = []
    said = []
    for question in questions:
        messages.append({"role": "user", "content": question})
        said.append("".join(answer_tokens(messages, tokens)))
        messages.append({"role": "assistant", "content": said[-1]})
    return said


def alone(question: str) -> str:
    """What it says to one that was asked without any history."""
    return answer_to(question, TOKENS)
