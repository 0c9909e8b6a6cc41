"""EventSource, unmodified: an npm package, another, and a browser's own read native streams as they are."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from tests.clients.conftest import TOKENS
from tests.clients.listeners import Listen, Listener
from tests.fakes.eventually import eventually
from tests.system.client import Client
from tests.system.processes import GatewayProcess, SimulatorProcess
from tests.system.prompts import answer_to, prompt
from tests.system.scene import SOON_S, Start, accepted, at_rest, calls_of, filled, held

pytestmark = pytest.mark.anyio

WALK = ["queued", "preparing", "ready", "waiting_slot", "streaming", "completed"]


async def test_an_answer_is_read_as_it_is_made_and_the_server_has_the_last_word(
    gateway: GatewayProcess, simulator: SimulatorProcess, listen: Listen, tag: str
) -> None:
    """Rows 1, 2 and 3: submit, two tokens before the model is done, one end, and then no reconnecting."""
    question = prompt(f"Sing {tag}", hold=tag, hold_after=2)
    async with Client(gateway.url) as client:
        chat = await accepted(client, question)
        assert chat["role"] == "leader"
        assert (await client.record(chat["id"]))["status"] == "ready"
        async with listen(gateway.url + chat["stream_url"]) as listener:
            await listener.until_text(answer_to(question, 2))
            record = await client.record(chat["id"])
            assert (record["status"], record["text"]) == ("streaming", answer_to(question, 2))
            simulator.release(tag)
            await listener.until_closed()
        record = await client.record(chat["id"])
    assert record["status"] == "completed"
    assert listener.text == record["text"] == answer_to(question, TOKENS)
    assert listener.end["event"] == "done"
    assert listener.end["data"]["finish_reason"] == "stop"
    assert listener.names.count("delta") >= 2
    walked = [WALK.index(status["status"]) for status in listener.statuses]
    assert walked == sorted(walked)
    assert calls_of(simulator, question) == 1


async def test_a_cancel_reaches_the_page_and_the_model(
    gateway: GatewayProcess, simulator: SimulatorProcess, listen: Listen, tag: str
) -> None:
    """Row 4: a Stop button works: the model's call is aborted and the EventSource is told and stopped."""
    question = prompt(f"Stop me {tag}", stall=2)
    before = simulator.stats()["aborted"]
    async with Client(gateway.url) as client:
        chat = await accepted(client, question)
        async with listen(gateway.url + chat["stream_url"]) as listener:
            await listener.until_text(answer_to(question, 2))
            assert (await client.cancel(chat["id"])).status == 200
            await eventually(lambda: simulator.stats()["aborted"] == before + 1, within=SOON_S)
            await listener.until_closed()
    assert listener.end["event"] == "cancelled"
    assert listener.text == answer_to(question, 2)
    await at_rest(gateway)


async def test_a_second_asker_is_served_from_the_cache(
    gateway: GatewayProcess, simulator: SimulatorProcess, listen: Listen, tag: str
) -> None:
    """Row 9: the same answer, event for event, without another call; the page can say that it was a hit."""
    question = prompt(f"Once for all {tag}")
    async with Client(gateway.url) as client:
        told = []
        for cache in ("miss", "hit"):
            chat = await accepted(client, question)
            async with listen(gateway.url + chat["stream_url"]) as listener:
                await listener.until_closed()
            assert listener.end["data"]["cache"] == cache
            told.append((listener.text, listener.end["id"], listener.end["data"]["usage"]))
            assert chat["role"] == ("cached" if cache == "hit" else "leader")
            await eventually(gateway.at_rest)
    assert told[0] == told[1]
    assert told[0][0] == answer_to(question, TOKENS)
    assert calls_of(simulator, question) == 1


async def test_who_comes_late_gets_all_of_it(
    gateway: GatewayProcess, simulator: SimulatorProcess, listen: Listen, tag: str
) -> None:
    """Row 27: after 300 events a second page joins, sees them all at once, and both go on together."""
    edge, total = 300, 310
    question = prompt(f"A long song {tag}", tokens=total, hold=tag, hold_after=edge)
    async with Client(gateway.url) as client:
        first, second = [await accepted(client, question) for _ in range(2)]
        assert [first["role"], second["role"]] == ["leader", "follower"]
        async with listen(gateway.url + first["stream_url"]) as early:
            await early.until_text(answer_to(question, edge))
            async with listen(gateway.url + second["stream_url"]) as late:
                await late.until_text(answer_to(question, edge))
                simulator.release(tag)
                await early.until_closed()
                await late.until_closed()
    assert early.text == late.text == answer_to(question, total)
    assert late.end["id"] == early.end["id"]
    assert late.end["data"]["cache"] == "coalesced"


async def test_a_follower_needs_no_leader(
    gateway: GatewayProcess, simulator: SimulatorProcess, listen: Listen, tag: str
) -> None:
    """Row 30: the tab that asked first was closed before it opened its stream; the second one is served."""
    question = prompt(f"Ghost {tag}")
    async with Client(gateway.url) as client:
        ghost, chat = [await accepted(client, question) for _ in range(2)]
        assert (ghost["role"], chat["role"]) == ("leader", "follower")
        async with listen(gateway.url + chat["stream_url"]) as listener:
            await listener.until_closed()
    assert listener.text == answer_to(question, TOKENS)
    assert listener.end["event"] == "done"
    assert calls_of(simulator, question) == 1


def has_stood_at(position: int, listener: Listener) -> bool:
    return position in [status["queue_position"] for status in listener.statuses]


async def test_the_place_in_the_queue_is_shown_and_falls(
    simulator: SimulatorProcess, start: Start, listen: Listen, tag: str
) -> None:
    """Row 62: a page that waits can say how many are before it, and that number never rises."""
    gateway = start(simulator, MAX_CONCURRENT_LLM_STREAMS=1)
    names = ("one", "two", "three")
    questions = [prompt(f"{name} {tag}", hold=f"{tag}-{name}") for name in names]
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        chats = [await accepted(client, question) for question in questions]
        running = [group.create_task(client.stream(chats[0]["stream_url"]))]
        await held(simulator, f"{tag}-one")
        running.append(group.create_task(client.stream(chats[1]["stream_url"])))
        await filled(gateway, "llm_streams", 1, 1)
        async with listen(gateway.url + chats[2]["stream_url"]) as listener:
            for position, name in ((2, "one"), (1, "two")):
                await listener.until(partial(has_stood_at, position))
                simulator.release(f"{tag}-{name}")
            simulator.release(f"{tag}-three")
            await listener.until_closed()
    places = [status["queue_position"] for status in listener.statuses if status["queue_position"]]
    assert places == sorted(places, reverse=True)
    assert {*places} == {1, 2}
    assert listener.text == answer_to(questions[2], TOKENS)
