"""Waiting rooms: bounded, honest about places, and nobody who comes at the wrong moment is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from tests.fakes.eventually import eventually
from tests.system.client import Client, text_of
from tests.system.crew import crew, pinned
from tests.system.places import placed, positions
from tests.system.processes import SimulatorProcess, workers
from tests.system.prompts import answer_to, prompt
from tests.system.scene import Simulate, Start, accepted, at_rest, filled, held, hook_of, together
from tests.system.sse import Event

pytestmark = pytest.mark.anyio

TOKENS = 6
PROCESSES = workers()


@pytest.fixture
def simulator(simulate: Simulate) -> SimulatorProcess:
    return simulate(ttft=0, tps=0, tokens=TOKENS)


async def test_beyond_the_queue_a_submit_is_refused_at_once_and_leaves_nothing(
    simulator: SimulatorProcess, start: Start
) -> None:
    """Row 50: 429 with an honest Retry-After on both wires; a duplicate of one that waits takes no place."""
    gateway = start(simulator, MAX_CONCURRENT_LEADERS=1, QUEUE_SIZE=2, PREPARE_URL=hook_of(simulator))
    loop = asyncio.get_running_loop()
    async with pinned(gateway, [crew(gateway)[1]]) as (door,), Client(gateway.url) as client:
        running = await accepted(door, prompt("Running", prepare_hold="full"))
        await filled(gateway, "leaders", 1, 0)
        queued = [await accepted(door, word) for word in ("Second", "Third")]
        twin = await accepted(door, "Third")
        assert twin["role"] == "follower"
        took = []
        for number in range(10):
            asked_at = loop.time()
            refused = await door.submit(f"Fourth {number}", request_id="fourth")
            took.append(loop.time() - asked_at)
            assert (refused.status, refused.error["code"]) == (429, "queue_full")
            assert refused.headers["x-refrain-reason"] == "queue_full"
            assert int(refused.headers["retry-after"]) >= 1
        # The fastest: that a refusal waits for nothing is the promise, not that the machine is idle.
        assert min(took) < 0.1
        for stream in (False, True):
            refused = await door.complete("Fourth there", stream=stream)
            assert (refused.status, refused.error["type"]) == (429, "rate_limit_error")
        await filled(gateway, "leaders", 1, 2)
        totals = gateway.get("/pipeline")["totals"]
        assert (totals["broadcasts"], totals["records"]) == (3, 4)
        simulator.release("full")
        streams = await together(client.stream(chat["stream_url"]) for chat in (running, *queued, twin))
        assert {stream.end.name for stream in streams} == {"done"}
        fourth = await client.submit("Fourth 3", request_id="fourth")
        assert fourth.status == 202, "a refused submit does not consume its request_id"
        await client.stream(fourth.json["stream_url"])
        await at_rest(gateway)
    assert simulator.stats()["prepare"]["calls"] == simulator.stats()["calls"] == 4


async def test_prepared_answers_that_wait_for_the_model_are_bounded_too(
    simulator: SimulatorProcess, start: Start
) -> None:
    """Row 50: beyond MAX_PENDING a new flight is refused before any work; hits and duplicates never are."""
    gateway = start(simulator, MAX_CONCURRENT_LLM_STREAMS=1, MAX_PENDING=2)
    async with (
        pinned(gateway, [crew(gateway)[1]]) as (door,),
        Client(gateway.url) as client,
        asyncio.TaskGroup() as group,
    ):
        await door.ask("Known already")
        first = await accepted(door, prompt("Live", hold="pending"))
        live = group.create_task(client.stream(first["stream_url"]))
        await held(simulator, "pending")
        pending = [await accepted(door, word) for word in ("Idle", "Queued")]
        queued = group.create_task(client.stream(pending[1]["stream_url"]))
        await filled(gateway, "llm_streams", 1, 1)
        refused = await door.submit("One too many")
        assert (refused.status, refused.error["code"]) == (429, "queue_full")
        assert (await accepted(door, "Idle"))["role"] == "follower"
        assert (await accepted(door, prompt("Live", hold="pending")))["role"] == "follower"
        hit = await door.ask("Known already")
        assert hit.end.json["cache"] == "hit"
        simulator.release("pending")
        assert (await live).end.name == (await queued).end.name == "done"
        assert (await client.stream(pending[0]["stream_url"])).end.name == "done"


def shown(events: list[Event], stage: str) -> list[int]:
    """The places that a stream's `status` events told while it waited there.

    Through another worker the first ones may say that the place is not known yet.
    """
    told = [event.json for event in events if event.name == "status"]
    places = [event["queue_position"] for event in told if event["stage"] == stage]
    return [place for place in places if PROCESSES == 1 or place is not None]


async def follow(client: Client, chat: Any, seen: list[Event]) -> None:
    """Read a stream to its end; what has come so far is in `seen`."""
    async with client.listening(chat["stream_url"]) as (_, events, _reader):
        async for event in events:
            seen += [event]


async def test_a_place_in_the_queue_is_told_and_only_falls(simulator: SimulatorProcess, start: Start) -> None:
    """Row 62: from 1, in the reply, the record and the stream; being overtaken is never shown."""
    gateway = start(simulator, MAX_CONCURRENT_LEADERS=1, PREPARE_URL=hook_of(simulator))
    async with (
        pinned(gateway, [crew(gateway)[1]]) as (door,),
        Client(gateway.url) as client,
        asyncio.TaskGroup() as group,
    ):
        await accepted(door, prompt("Running", prepare_hold="place"))
        await filled(gateway, "leaders", 1, 0)
        chats = [await accepted(door, f"Batch {number}", priority="batch") for number in range(4)]
        assert [chat["queue_position"] for chat in chats] == [1, 2, 3, 4]
        streams: list[list[Event]] = [[] for _ in chats]
        for chat, seen in zip(chats, streams, strict=True):
            group.create_task(follow(client, chat, seen))
        await eventually(lambda: [shown(seen, "leaders") for seen in streams] == [[1], [2], [3], [4]])
        await placed(client, chats, [1, 2, 3, 4])
        await client.cancel(chats[0]["id"])
        await placed(client, chats, [None, 1, 2, 3])
        urgent = await accepted(door, "Interactive")
        assert urgent["queue_position"] == 1
        assert await positions(door, chats) == [None, 1, 2, 3], "they wait longer now, but are not sent back"
        await client.cancel(urgent["id"])
        await client.cancel(chats[1]["id"])
        await placed(client, chats, [None, None, 1, 2])
        simulator.release("place")
    for seen in streams:
        told = shown(seen, "leaders")
        assert told == sorted(told, reverse=True)
    assert [seen[-1].name for seen in streams] == ["cancelled", "cancelled", "done", "done"]


async def test_a_place_before_the_model_is_told_as_well(simulator: SimulatorProcess, start: Start) -> None:
    """Row 62: per stage, and on the OpenAI wire as comments once its stream is open."""
    gateway = start(simulator, MAX_CONCURRENT_LLM_STREAMS=1, ABANDON_GRACE_S=0)
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        group.create_task(client.ask(prompt("Running", hold="model")))
        await held(simulator, "model")
        chats = []
        streams = []
        for number in range(3):
            chats.append(await accepted(client, f"Waiting {number}"))
            assert chats[-1]["queue_position"] is None, "nobody listens, so it waits for nothing"
            streams.append(group.create_task(client.stream(chats[-1]["stream_url"])))
            await filled(gateway, "llm_streams", 1, number + 1)
        await placed(client, chats, [1, 2, 3])
        body = {"stream": True, "messages": [{"role": "user", "content": "Waiting there"}]}
        async with client.http.post("/v1/chat/completions", json=body) as reply:
            assert await reply.content.readline() == b": queue position 4\n"
        await filled(gateway, "llm_streams", 1, 3)
        await client.cancel(chats[0]["id"])
        await placed(client, chats, [None, 1, 2])
        simulator.release("model")
    for number, task in enumerate(streams):
        told = shown(task.result().events, "llm_streams")
        assert told[0] == number + 1
        assert told == sorted(told, reverse=True)


async def test_a_thousand_around_the_end_of_a_stream_cost_one_call(
    simulator: SimulatorProcess, start: Start
) -> None:
    """Row 58: at no moment between the running answer and the cached one does a twin find neither."""
    gateway = start(simulator)
    question = prompt("Everybody asks", hold="gap", hold_after=2)
    turns = asyncio.Semaphore(320)

    async def ask(client: Client, number: int) -> str:
        async with turns:
            if number % 2:
                return (await client.ask(question)).text
            return text_of((await client.chunks(question))[1])

    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        asked = group.create_task(together(ask(client, number) for number in range(1000)))
        # As many as have a turn share the running answer; all others come at its end, or after it.
        await eventually(lambda: gateway.get("/pipeline")["totals"]["joins"] == 319, within=30)
        simulator.release("gap")
    assert Counter(asked.result()) == {answer_to(question, TOKENS): 1000}
    assert simulator.stats()["calls"] == 1
    results = {
        name: gateway.metrics()[f'refrain_cache_requests_total{{result="{name}"}}'] for name in CACHE_RESULTS
    }
    assert results["miss"] == 1
    assert results["coalesced"] >= 319
    assert sum(results.values()) == 1000


CACHE_RESULTS = ("hit", "miss", "coalesced", "bypass")


async def test_a_herd_of_a_thousand_stays_within_every_cap_and_all_end_once(
    simulator: SimulatorProcess, start: Start
) -> None:
    """Row 92: 500 identical and 500 distinct questions at once: one call for the ones, 500 for the others."""
    gateway = start(
        simulator,
        MAX_CONCURRENT_LEADERS=4,
        MAX_CONCURRENT_FOLLOWERS=3,
        MAX_CONCURRENT_LLM_STREAMS=8,
        PREPARE_URL=hook_of(simulator),
    )
    outcomes: Counter[str] = Counter()
    leaders = 4 * PROCESSES

    async def native(client: Client, question: str) -> str:
        stream = await client.ask(question)
        outcomes[stream.end.name] += 1
        return stream.text

    async def openai(client: Client, question: str) -> str:
        _, frames = await client.chunks(question)
        assert frames.count("[DONE]") == 1
        assert frames[-1] == "[DONE]"
        outcomes["done"] += 1
        return text_of(frames)

    async with Client(gateway.url) as client:
        words = [word for number in range(500) for word in ("The same", f"Another {number}")]
        questions = [prompt(word, hold="herd", prepare_hold="herd-prepared") for word in words]
        wires = (native, native, openai, openai)
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(
                together(wires[at % 4](client, question) for at, question in enumerate(questions))
            )
            await held(simulator, "herd-prepared", leaders)
            simulator.release("herd-prepared")
            await held(simulator, "herd", 8)
            simulator.release("herd")
        texts = asked.result()
        await at_rest(gateway)
    assert outcomes == {"done": 1000}
    assert len(set(texts[::2])) == 1
    assert len(set(texts[1::2])) == 500
    stats = simulator.stats()
    assert (stats["calls"], stats["completed"], stats["peak"]) == (501, 501, 8)
    assert stats["prepare"]["peak"] == leaders
    # Where Redis is too slow for a look-up, each process may prepare what all ask; only one then asks it.
    assert 501 <= stats["prepare"]["calls"] <= 500 + PROCESSES
    ended = {
        name: value for name, value in gateway.metrics().items() if name.startswith("refrain_requests_total")
    }
    assert sum(ended.values()) == 1000
    closing = Counter(line["id"] for line in gateway.log if line.get("outcome"))
    assert len(closing) == 1000
    assert set(closing.values()) == {1}
