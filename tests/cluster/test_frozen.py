"""A reader goes to and fro between a process that was frozen and the one that has taken over from it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.cluster.conftest import Cluster
from tests.system.client import Client
from tests.system.prompts import answer_to, prompt
from tests.system.scene import calls_of

Launch = Callable[..., Cluster]
pytestmark = pytest.mark.anyio

TOKENS, SHOWN = 40, 12


async def read_until(client: Client, url: str, name: str, count: int, cursor: str | None) -> str:
    """Leave at the event so many of that name have come; what the next connection starts from."""
    async with client.listening(url, last_event_id=cursor) as (reply, events, _reader):
        assert reply.status == 200
        async for event in events:
            count -= event.name == name
            if not count:
                return event.id
    raise AssertionError(f"the stream has ended without {name}")


async def test_who_has_been_told_of_a_reset_never_goes_on_in_the_old_text(launch: Launch) -> None:
    """Row 43, and of every text one call's: a reader has dropped its text at a `reset` and leaves before the
    new one begins. The process that was frozen still goes on for its own readers: there it gets all of that
    text, and back at the new leader all of the new one. Never the second half of either."""
    cluster = launch(2, ABANDON_GRACE_S=30)
    question = prompt("To and fro?", tps=0, tokens=TOKENS, hold="middle", hold_after=SHOWN)
    async with cluster.clients_of_all() as (old, new), asyncio.timeout(60), asyncio.TaskGroup() as group:
        url = (await old.submit(question)).json["stream_url"]
        own = group.create_task(old.stream(url))
        cursor = await read_until(old, url, "delta", SHOWN, None)
        other = group.create_task(new.ask(question))  # so that the question is known there
        assert await read_until(new, url, "status", 1, cursor) == cursor
        cluster.nodes[0].stop()
        reset = await read_until(new, url, "reset", 1, cursor)
        assert reset.endswith("-0")
        assert reset.partition("-")[0] > cursor.partition("-")[0]
        cluster.nodes[0].go_on()
        back = await read_until(old, url, "delta", SHOWN, reset)
        assert back == cursor, "from its start, and under its own epoch"
        again = await read_until(new, url, "delta", SHOWN, back)
        assert again == f"{reset.partition('-')[0]}-{SHOWN}"
        await asyncio.to_thread(cluster.simulator.release, "middle")
        last = await old.stream(url, last_event_id=again)
        assert next(event.name for event in last.events if event.name != "status") == "reset"
        assert last.text == answer_to(question, TOKENS)
        assert last.end.name == "done"
    assert own.result().text == answer_to(question, TOKENS)
    assert {event.name for event in own.result().events} == {"status", "delta", "done"}
    assert other.result().text == answer_to(question, TOKENS)
    assert calls_of(cluster.simulator, question) == 2
    await cluster.until_rest()
