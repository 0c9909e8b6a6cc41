"""Cancelling by id: what the one who cancels sees, what the others see, and what the model sees."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.fakes.eventually import eventually
from tests.system.client import Client, Stream
from tests.system.crew import crew, pinned
from tests.system.processes import GatewayProcess
from tests.system.prompts import answer_to, prompt
from tests.system.scene import (
    LAG_S,
    SOON_S,
    Simulate,
    Start,
    accepted,
    at_rest,
    calls_of,
    filled,
    held,
    hook_of,
    shown,
    together,
)

pytestmark = pytest.mark.anyio


async def test_a_cancel_in_mid_stream_stops_the_model_and_is_the_last_word(
    simulate: Simulate, start: Start
) -> None:
    """Rows 4 and 33: 200, the stream's last event is `cancelled`, and the model sees its caller leave."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator)
    question = prompt("row 33", hold="gate", hold_after=2, tokens=9)
    async with Client(gateway.url) as client:
        one = await accepted(client, question)
        async with client.listening(one["stream_url"]) as (_, events, reader):
            seen = []
            while not reader.last_id.endswith("-2"):
                seen.append(await anext(events))
            reply = await client.cancel(one["id"])
            async with asyncio.timeout(SOON_S):
                seen += [event async for event in events]
        assert (reply.status, reply.json["status"], reply.json["stage"]) == (200, "cancelled", "ended")
        await eventually(lambda: simulator.stats()["aborted"] == 1, within=SOON_S)
        stream = Stream(200, {}, seen)
        assert stream.end.name == "cancelled"
        assert set(stream.end.json) == {"reason"}
        assert stream.end.id.endswith("-999999999"), "private to this request"
        record = await client.record(one["id"])
        assert (record["status"], record["text"]) == ("cancelled", answer_to(question, 2))
        assert record["finish_reason"] is None
    await at_rest(gateway)
    assert simulator.stats()["in_flight"] == 0


async def test_a_stream_opened_after_the_cancel_says_so_at_once(simulate: Simulate, start: Start) -> None:
    """Row 31: submit, cancel, GET stream: 200, one `cancelled` event, the end; the model was never asked."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator)
    async with Client(gateway.url) as client:
        one = await accepted(client, "never mind")
        assert (await client.cancel(one["id"])).status == 200
        for _ in range(2):
            async with asyncio.timeout(SOON_S):
                stream = await client.stream(one["stream_url"])
            assert stream.status == 200
            assert [event.name for event in stream.events if event.name != "status"] == ["cancelled"]
        assert (await client.stream(one["stream_url"], last_event_id=stream.end.id)).status == 204
    assert simulator.stats()["calls"] == 0
    await at_rest(gateway)


@pytest.mark.parametrize("where", ["queued", "preparing", "waiting_slot", "streaming"])
async def test_whoever_waits_is_let_go_at_once(simulate: Simulate, start: Start, where: str) -> None:
    """Rows 4 and 32: cancelled with its stream open and nothing produced yet, wherever it waits."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(
        simulator, PREPARE_URL=hook_of(simulator), MAX_CONCURRENT_LEADERS=1, MAX_CONCURRENT_LLM_STREAMS=1
    )
    holds = {"preparing": {"prepare_hold": "mine"}, "streaming": {"hold": "mine"}}.get(where, {})
    question = prompt(f"row 32, {where}", **holds)
    async with (
        pinned(gateway, [crew(gateway)[1]]) as (door,),
        Client(gateway.url) as client,
        asyncio.TaskGroup() as group,
    ):
        other: Any = None
        if where == "queued":
            other = await accepted(door, prompt("busy", prepare_hold="other"))
            await held(simulator, "other")
        elif where == "waiting_slot":
            other = await accepted(door, prompt("busy", hold="other"))
            group.create_task(client.stream(other["stream_url"]))
            await held(simulator, "other")
        one = await accepted(door, question)
        reading = group.create_task(client.stream(one["stream_url"]))
        await client.until_status(one["id"], where)
        if holds:
            await held(simulator, "mine")
        assert (await client.cancel(one["id"])).status == 200
        async with asyncio.timeout(SOON_S):
            stream = await reading
        assert (stream.end.name, stream.text) == ("cancelled", "")
        if holds:
            meter = "prepare" if where == "preparing" else None
            await eventually(lambda: _meter(simulator.stats(), meter)["aborted"] == 1, within=SOON_S)
        await eventually(lambda: not _waiting(gateway), within=LAG_S)
        simulator.release("other")
        if other is not None:
            # It takes no slot later: the one before it ends, and nobody asks for the cancelled one.
            assert (await client.stream(other["stream_url"])).end.name == "done"
            assert simulator.stats()["prepare"]["calls"] == (1 if where == "queued" else 2)
            assert simulator.stats()["calls"] == 1
        assert (await client.record(one["id"]))["status"] == "cancelled"
    await at_rest(gateway)


def _waiting(gateway: GatewayProcess) -> int:
    return sum(stage["waiting"] for stage in gateway.get("/pipeline")["stages"])


def _meter(stats: Any, name: str | None) -> Any:
    return stats if name is None else stats[name]


async def test_a_cancelled_leader_leaves_its_follower_the_answer(simulate: Simulate, start: Start) -> None:
    """Row 34: the leader's stream ends cancelled, the follower's in full, and nothing is aborted."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator)
    question = prompt("row 34", hold="gate", hold_after=2, tokens=6)
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        leader, follower = [await accepted(client, question) for _ in range(2)]
        reading = [group.create_task(client.stream(one["stream_url"])) for one in (leader, follower)]
        await held(simulator, "gate")
        assert (await client.cancel(leader["id"])).status == 200
        assert (await reading[0]).end.name == "cancelled"
        await shown(client, follower["id"], "streaming")
        simulator.release("gate")
        assert (await reading[1]).end.name == "done"
        assert (await reading[1]).text == answer_to(question, 6)
        mine = await client.record(leader["id"])
        assert (mine["status"], mine["text"]) == ("cancelled", answer_to(question, 2)), "not what came later"
        assert mine["usage"] is None
    seen = simulator.stats()
    assert (seen["calls"], seen["completed"], seen["aborted"]) == (1, 1, 0)
    await at_rest(gateway)


async def test_the_last_one_to_leave_ends_the_work(simulate: Simulate, start: Start) -> None:
    """Row 35: the leader is cancelled and the work goes on; then the last follower: the model is let go."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator)
    question = prompt("row 35", hold="gate", hold_after=1)
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        ones = [await accepted(client, question) for _ in range(3)]
        reading = [group.create_task(client.stream(one["stream_url"])) for one in ones]
        await held(simulator, "gate")
        for one in ones[:-1]:
            assert (await client.cancel(one["id"])).status == 200
            assert simulator.stats()["in_flight"] == 1
            await filled(gateway, "llm_streams", 1, 0)
        assert (await client.cancel(ones[-1]["id"])).status == 200
        await eventually(lambda: simulator.stats()["aborted"] == 1, within=SOON_S)
        assert [(await stream).end.name for stream in reading] == ["cancelled"] * 3
    await at_rest(gateway)


async def test_preparation_outlives_its_leader(simulate: Simulate, start: Start) -> None:
    """Row 36: the leader is cancelled while its request is prepared: the follower is served by that work."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator, PREPARE_URL=hook_of(simulator))
    question = prompt("row 36", prepare_hold="door", tokens=4)
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        leader, follower = [await accepted(client, question) for _ in range(2)]
        reading = group.create_task(client.stream(follower["stream_url"]))
        await held(simulator, "door")
        assert (await client.cancel(leader["id"])).status == 200
        await held(simulator, "door")
        simulator.release("door")
        assert (await reading).end.name == "done"
        assert (await client.stream(leader["stream_url"])).end.name == "cancelled"
    prepared = simulator.stats()["prepare"]
    assert (prepared["calls"], prepared["completed"], prepared["aborted"]) == (1, 1, 0)
    await at_rest(gateway)


async def test_a_cancelled_follower_is_missed_by_nobody(simulate: Simulate, start: Start) -> None:
    """Row 37: its stream alone ends; the leader and the other followers have the full text."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator)
    question = prompt("row 37", hold="gate", hold_after=2, tokens=5)
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        ones = [await accepted(client, question) for _ in range(4)]
        reading = [group.create_task(client.stream(one["stream_url"])) for one in ones]
        await held(simulator, "gate")
        assert (await client.cancel(ones[1]["id"])).status == 200
        assert (await reading[1]).end.name == "cancelled"
        simulator.release("gate")
        others = [await reading[place] for place in (0, 2, 3)]
        assert [(stream.end.name, stream.text) for stream in others] == [("done", answer_to(question, 5))] * 3
    assert simulator.stats()["aborted"] == 0
    await at_rest(gateway)


async def test_a_cancelled_request_stays_cancelled(simulate: Simulate, start: Start) -> None:
    """Row 39: a hundred races with the answer: 200 means cancelled for ever, 409 completed, none failed."""
    simulator = simulate(ttft=0, tps=0, tokens=6)
    gateway = start(simulator)

    async def race(client: Client, number: int) -> tuple[str, str]:
        one = await accepted(client, prompt(f"race {number}"))
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(client.stream(one["stream_url"]))
            for _ in range(number % 10):
                await client.record(one["id"])  # so that the cancel comes a little later each time
            cancelling = group.create_task(client.cancel(one["id"]))
        expected = {200: ("cancelled", "cancelled"), 409: ("completed", "done")}[cancelling.result().status]
        await shown(client, one["id"], expected[0])
        assert reading.result().end.name == expected[1]
        return one["id"], expected[0]

    async with Client(gateway.url) as client:
        endings = []
        for batch in range(10):
            endings += await together(race(client, 10 * batch + place) for place in range(10))
        await at_rest(gateway)
        assert [((await client.record(id))["status"]) for id, _ in endings] == [end for _, end in endings]


async def test_the_question_can_be_asked_again_at_once(simulate: Simulate, start: Start) -> None:
    """Row 40: right after its cancel the same question leads anew, and its answer is whole."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator, MAX_CONCURRENT_LLM_STREAMS=1)
    question = prompt("row 40", hold="gate", hold_after=2, tokens=5)
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        one = await accepted(client, question)
        reading = group.create_task(client.stream(one["stream_url"]))
        await held(simulator, "gate")
        assert (await client.cancel(one["id"])).status == 200
        again = await accepted(client, question)
        assert again["role"] == "leader"
        assert again["id"] != one["id"]
        assert (await reading).end.name == "cancelled"
        simulator.release("gate")
        stream = await client.stream(again["stream_url"])
        assert (stream.end.name, stream.text) == ("done", answer_to(question, 5))
    assert calls_of(simulator, question) == 2
    await at_rest(gateway)
