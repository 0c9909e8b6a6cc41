"""Submit, subscribe, poll: what one caller sees of one request."""

from __future__ import annotations

import asyncio
import re
import statistics
import time
from contextlib import AsyncExitStack

import pytest

from tests.fakes.eventually import eventually
from tests.system.client import Client
from tests.system.crew import crew, pinned
from tests.system.places import placed
from tests.system.prompts import answer_to, prompt
from tests.system.scene import Simulate, Start, accepted, at_rest, calls_of, filled, held, hook_of
from tests.system.sse import Event

pytestmark = pytest.mark.anyio

WALK = ["queued", "preparing", "ready", "waiting_slot", "streaming", "completed"]


async def test_a_submit_is_answered_before_the_model_says_a_word(simulate: Simulate, start: Start) -> None:
    """Row 1: an id, a role and an address in under 100 ms, while the model holds every call."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator)
    took = []
    async with Client(gateway.url) as client, AsyncExitStack() as streams:
        for number in range(20):
            began = time.perf_counter()
            reply = await client.submit(prompt(f"question {number}", hold="for-ever"))
            took.append(time.perf_counter() - began)
            assert reply.status == 202
            answer = reply.json
            assert set(answer) == {"id", "status", "role", "stream_url", "queue_position"}
            assert re.fullmatch(r"chat_[0-9a-f]{32,}", answer["id"]), "at least 128 random bits"
            assert answer["role"] == "leader"
            assert answer["stream_url"].startswith(f"/chat/{answer['id']}/stream?ticket=")
            await streams.enter_async_context(client.listening(answer["stream_url"]))
        await held(simulator, "for-ever", 20)
    # The median, because on a shared machine any single one may be the one that was not scheduled.
    assert statistics.median(took) < 0.1, took


async def test_tokens_arrive_while_the_model_is_still_talking(simulate: Simulate, start: Start) -> None:
    """Row 2: an event stream with separate tokens before the model's end, one terminal event, the close."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator)
    question = prompt("row 2", hold="half", hold_after=3, tokens=6)
    async with Client(gateway.url) as client:
        submitted = await accepted(client, question)
        async with client.listening(submitted["stream_url"]) as (reply, events, reader):
            assert reply.status == 200
            assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert reply.headers["cache-control"] == "no-store, no-transform"
            assert reply.headers["x-accel-buffering"] == "no"
            assert "content-encoding" not in reply.headers
            seen: list[Event] = []
            while len(seen) < 3:
                event = await anext(events)
                if event.name == "delta":
                    seen.append(event)
            assert simulator.stats()["in_flight"] == 1, "the model has not finished"
            simulator.release("half")
            rest = [event async for event in events]  # ends only when the server closes
    assert reader.retry is not None
    assert 500 <= reader.retry <= 1500
    assert [event.name for event in rest if event.name != "status"] == ["delta"] * 3 + ["done"]
    deltas = seen + [event for event in rest if event.name == "delta"]
    epochs, numbers = zip(*(event.id.split("-") for event in deltas), strict=True)
    assert len(set(epochs)) == 1
    assert numbers == ("1", "2", "3", "4", "5", "6")
    assert rest[-1].id == f"{epochs[0]}-7"
    assert "".join(event.json["text"] for event in deltas) == answer_to(question, 6)
    assert set(rest[-1].json) == {"finish_reason", "usage", "role", "cache", "timings"}


async def test_status_walks_forward_through_every_stage(simulate: Simulate, start: Start) -> None:
    """Row 3: queued, preparing, ready, waiting_slot, streaming, completed: each seen, and never one back."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(
        simulator, PREPARE_URL=hook_of(simulator), MAX_CONCURRENT_LEADERS=1, MAX_CONCURRENT_LLM_STREAMS=1
    )
    stages: dict[str, str] = {}

    async with (
        pinned(gateway, list(crew(gateway).values())) as (door, *others),
        Client(gateway.url) as client,
        asyncio.TaskGroup() as group,
    ):
        talker = await accepted(client, prompt("holds the slot", hold="talker"))
        listening = group.create_task(client.stream(talker["stream_url"]))
        await held(simulator, "talker")
        await accepted(door, prompt("holds the leader", prepare_hold="planner"))
        await held(simulator, "planner")
        mine = await accepted(
            door, prompt("walks", prepare_hold="prepare", hold="answer", hold_after=2, tokens=4)
        )
        assert (mine["status"], mine["queue_position"]) == ("queued", 1)

        walks: list[list[str]] = []

        async def poll(watcher: Client) -> None:
            seen: list[str] = []
            walks.append(seen)
            while not seen or seen[-1] != "completed":
                record = await watcher.record(mine["id"])
                if not seen or seen[-1] != record["status"]:
                    seen.append(record["status"])
                    stages[record["status"]] = record["stage"]
                await asyncio.sleep(0)

        async def walked(count: int) -> None:
            await eventually(lambda: walks == [WALK[:count]] * (1 + len(others)))

        polling = [group.create_task(poll(watcher)) for watcher in (door, *others)]
        await walked(1)
        simulator.release("planner")
        await walked(2)
        simulator.release("prepare")
        await walked(3)
        reading = group.create_task(client.stream(mine["stream_url"]))
        await walked(4)
        simulator.release("talker")
        await walked(5)
        await held(simulator, "answer")
        halfway = await door.record(mine["id"])
        simulator.release("answer")
        for watching in polling:
            await watching
        stream = await reading
        assert (await listening).end.name == "done"
        after = await client.record(mine["id"])

    assert walks == [WALK] * (1 + len(others)), "through each worker by itself"
    assert stages == dict(
        zip(
            WALK,
            ["leaders", "preparing:hook", "subscriber", "llm_streams", "streaming", "ended"],
            strict=True,
        )
    )
    assert halfway["text"]
    assert stream.text.startswith(halfway["text"])
    assert after["text"] == stream.text
    assert (after["status"], after["finish_reason"], after["role"]) == ("completed", "stop", "leader")
    assert after["usage"]["completion_tokens"] == 4
    assert all(isinstance(value, int) for value in after["timings"].values()), after["timings"]


async def test_nothing_is_asked_of_the_model_until_somebody_watches(simulate: Simulate, start: Start) -> None:
    """Row 19: a prepared request costs no call and no slot; opening its stream starts the one call."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator, MAX_CONCURRENT_LLM_STREAMS=1)
    async with Client(gateway.url) as client:
        unwatched = await accepted(client, "who watches?")
        await client.until_status(unwatched["id"], "ready")
        # The only slot is free for everybody else, and a whole answer later nothing has been asked.
        assert (await client.ask("I do")).end.name == "done"
        assert calls_of(simulator, "who watches?") == 0
        assert (await client.record(unwatched["id"]))["status"] == "ready"
        stream = await client.stream(unwatched["stream_url"])
    assert stream.text == answer_to("who watches?", 60)
    assert calls_of(simulator, "who watches?") == 1
    await at_rest(gateway)


async def test_an_unwatched_request_expires_and_frees_everything(simulate: Simulate, start: Start) -> None:
    """Row 20: after the pickup time it says so, by status and by stream, and the model was never asked."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator, SUBSCRIBE_TIMEOUT_S=0.2, PREPARE_URL=hook_of(simulator))
    async with Client(gateway.url) as client:
        submitted = await accepted(client, "nobody comes")
        record = await client.until_status(submitted["id"], "expired")
        stream = await client.stream(submitted["stream_url"])
        late = await client.cancel(submitted["id"])
        assert (record["stage"], record["text"]) == ("ended", "")
        assert (stream.status, stream.end.name) == (200, "failed")
        assert stream.end.json["code"] == "subscribe_timeout"
        assert stream.end.json["retryable"] is True
        assert late.status == 409
        assert (await client.record(submitted["id"]))["status"] == "expired"
        await at_rest(gateway)
        assert simulator.stats()["calls"] == 0
        assert simulator.stats()["prepare"]["completed"] == 1
        # The key is free: the same question is a new one.
        assert (await client.ask("nobody comes")).end.name == "done"


async def test_place_in_the_queue_is_told_from_the_start(simulate: Simulate, start: Start) -> None:
    """Rows 1 and 3: a queued submit says where it stands, and the record agrees."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator, PREPARE_URL=hook_of(simulator), MAX_CONCURRENT_LEADERS=1)
    async with pinned(gateway, [crew(gateway)[1]]) as (door,), Client(gateway.url) as client:
        first = await accepted(door, prompt("first", prepare_hold="door"))
        assert first["queue_position"] is None
        for place in (1, 2, 3):
            queued = await accepted(door, f"place {place}")
            assert (queued["status"], queued["queue_position"]) == ("queued", place)
            assert (await door.record(queued["id"]))["queue_position"] == place
            await placed(client, [queued], [place])
        await filled(gateway, "leaders", 1, 3)
        simulator.release("door")
        await filled(gateway, "leaders", 0, 0)
