"""The stages from outside: peaks at the hook and at the model, what holds which slot, and in which order."""

from __future__ import annotations

import asyncio

import pytest

from tests.fakes.eventually import eventually
from tests.system.client import Client
from tests.system.crew import crew, pinned
from tests.system.places import placed
from tests.system.prompts import answer_to, prompt
from tests.system.scene import Simulate, Start, accepted, at_rest, filled, held, hook_of, together

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("limit", [2, 1])
async def test_the_hook_never_sees_more_than_the_leader_limit(
    simulate: Simulate, start: Start, limit: int
) -> None:
    """Row 15: six distinct prompts with a slow hook: its peak is the limit, neither less nor more."""
    simulator = simulate(ttft=0, tps=0, prepare_delay=0.02)
    gateway = start(simulator, PREPARE_URL=hook_of(simulator), MAX_CONCURRENT_LEADERS=limit)
    async with pinned(gateway, [crew(gateway)[1]]) as (door,), Client(gateway.url) as client:
        ids = [(await accepted(door, prompt(f"row 15, {n}", prepare_hold="door")))["id"] for n in range(6)]
        await held(simulator, "door", limit)
        await filled(gateway, "leaders", limit, 6 - limit)
        assert simulator.stats()["prepare"]["in_flight"] == limit
        simulator.release("door")
        await together(client.until_status(id, "ready") for id in ids)
        prepared = simulator.stats()["prepare"]
        assert (prepared["calls"], prepared["completed"], prepared["peak"]) == (6, 6, limit)
        await filled(gateway, "leaders", 0, 0)


@pytest.mark.parametrize("limit", [2, 1])
async def test_the_model_never_sees_more_than_the_stream_limit(
    simulate: Simulate, start: Start, limit: int
) -> None:
    """Row 17: six prepared and connected requests: the model's peak is the limit, neither less nor more."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator, MAX_CONCURRENT_LLM_STREAMS=limit)
    questions = [prompt(f"row 17, {n}", hold="gate", tokens=5) for n in range(6)]
    async with Client(gateway.url) as client:
        urls = [(await accepted(client, question))["stream_url"] for question in questions]
        async with asyncio.TaskGroup() as group:
            streams = [group.create_task(client.stream(url)) for url in urls]
            await held(simulator, "gate", limit)
            await filled(gateway, "llm_streams", limit, 6 - limit)
            assert simulator.stats()["in_flight"] == limit
            simulator.release("gate")
        assert [stream.result().text for stream in streams] == [answer_to(q, 5) for q in questions]
    seen = simulator.stats()
    assert (seen["calls"], seen["completed"], seen["peak"]) == (6, 6, limit)
    await at_rest(gateway)


@pytest.mark.parametrize("limit", [2, 1])
async def test_planning_calls_have_a_limit_of_their_own(simulate: Simulate, start: Start, limit: int) -> None:
    """Issue part 6: six planning calls peak at llm_calls, then six answers at llm_streams, also at 1."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(
        simulator,
        PREPARE_MODEL="planner",
        MAX_CONCURRENT_LLM_CALLS=limit,
        MAX_CONCURRENT_LLM_STREAMS=limit,
    )
    async with Client(gateway.url) as client:
        # The plan is asked with the user's message in it: the hold is the planning call's first.
        submitted = [await accepted(client, prompt(f"plan {n}", hold="plan", tokens=3)) for n in range(6)]
        await held(simulator, "plan", limit)
        await filled(gateway, "llm_calls", limit, 6 - limit)
        assert (gateway.stage("leaders")["in_use"], gateway.stage("llm_streams")["in_use"]) == (6, 0)
        simulator.release("plan")
        await together(client.until_status(one["id"], "ready") for one in submitted)
        planned = simulator.stats()
        assert (planned["calls_by_model"], planned["peak"]) == ({"planner": 6}, limit)
        simulator.reset()
        streams = await together(client.stream(one["stream_url"]) for one in submitted)
        assert [stream.end.name for stream in streams] == ["done"] * 6
    answered = simulator.stats()
    assert answered["calls_by_model"] == {"refrain-sim": 6}
    assert answered["peak"] <= limit
    await at_rest(gateway)


async def test_planning_and_answering_together_stay_below_both_limits(
    simulate: Simulate, start: Start
) -> None:
    """Issue part 6: with both LLM stages full the model serves their sum, and not one call more."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(
        simulator, PREPARE_MODEL="planner", MAX_CONCURRENT_LLM_CALLS=2, MAX_CONCURRENT_LLM_STREAMS=1
    )
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        answers = [await accepted(client, prompt(f"answer {n}", tokens=2)) for n in range(2)]
        await together(client.until_status(one["id"], "ready") for one in answers)
        plans = [await accepted(client, prompt(f"plan {n}", hold="both", tokens=2)) for n in range(4)]
        await filled(gateway, "llm_calls", 2, 2)
        simulator.config(ttft=3600)  # whoever is asked from now on says nothing until it is cancelled
        for one in answers:
            group.create_task(client.stream(one["stream_url"]))
        await filled(gateway, "llm_streams", 1, 1)
        await eventually(lambda: simulator.stats()["in_flight"] == 3)
        assert simulator.stats()["peak"] == 3
        for one in [*answers, *plans]:
            assert (await client.cancel(one["id"])).status == 200
    await at_rest(gateway)
    assert simulator.stats()["peak"] == 3
    await eventually(lambda: simulator.stats()["in_flight"] == 0)


async def test_no_request_holds_a_leader_slot_while_it_streams_or_waits(
    simulate: Simulate, start: Start
) -> None:
    """Rows 16 and 18: with one slot of each kind, A streams, B waits for the stream slot, and C prepares."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(
        simulator, PREPARE_URL=hook_of(simulator), MAX_CONCURRENT_LEADERS=1, MAX_CONCURRENT_LLM_STREAMS=1
    )
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        a = await accepted(client, prompt("A", hold="A", hold_after=1))
        reading_a = group.create_task(client.stream(a["stream_url"]))
        await client.until_status(a["id"], "streaming")
        b = await accepted(client, prompt("B", prepare_hold="B"))
        await held(simulator, "B")
        assert (await client.record(a["id"]))["status"] == "streaming"
        simulator.release("B")
        await client.until_status(b["id"], "ready")  # while A streams: row 16
        reading_b = group.create_task(client.stream(b["stream_url"]))
        await client.until_status(b["id"], "waiting_slot")
        c = await accepted(client, "C")
        await client.until_status(c["id"], "ready")  # while B is parked: row 18
        await filled(gateway, "leaders", 0, 0)
        await filled(gateway, "llm_streams", 1, 1)
        assert (await client.record(a["id"]))["status"] == "streaming"
        simulator.release("A")
        assert (await reading_a).end.name == "done"
        assert (await reading_b).end.name == "done"
        assert (await client.stream(c["stream_url"])).end.name == "done"
    assert simulator.stats()["peak"] == 1
    await at_rest(gateway)


async def test_a_follower_overtakes_leaders_that_wait(simulate: Simulate, start: Start) -> None:
    """Row 24: with all leaders busy, a follower of a live answer is served before a queued leader starts."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator, PREPARE_URL=hook_of(simulator), MAX_CONCURRENT_LEADERS=1)
    live = prompt("live", hold="live", hold_after=2)
    async with (
        pinned(gateway, [crew(gateway)[1]]) as (door,),
        Client(gateway.url) as client,
        asyncio.TaskGroup() as group,
    ):
        leader = await accepted(client, live)
        reading = group.create_task(client.stream(leader["stream_url"]))
        await client.until_status(leader["id"], "streaming")
        await accepted(door, prompt("busy", prepare_hold="busy"))
        queued = await accepted(door, "queued")
        await filled(gateway, "leaders", 1, 1)
        follower = await accepted(client, live)
        assert follower["role"] == "follower"
        follow = group.create_task(client.stream(follower["stream_url"]))
        simulator.release("live")
        assert (await follow).end.json["cache"] == "coalesced"
        assert (await follow).text == (await reading).text
        assert (await client.record(queued["id"]))["status"] == "queued"
        await filled(gateway, "leaders", 1, 1)
        assert simulator.stats()["prepare"]["calls"] == 2, "the queued one has not started"
        simulator.release("busy")
        await client.until_status(queued["id"], "ready")


async def test_leaders_start_in_the_order_of_their_submits(simulate: Simulate, start: Start) -> None:
    """Row 26: one after the other, oldest first, though followers join the last of them and are told so."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator, PREPARE_URL=hook_of(simulator), MAX_CONCURRENT_LEADERS=1)
    questions = [prompt(f"turn {n}", prepare_hold=f"turn-{n}") for n in range(5)]
    async with pinned(gateway, [crew(gateway)[1]]) as (door,), Client(gateway.url) as client:
        leaders = [await accepted(door, question) for question in questions]
        followers = [await accepted(door, questions[4]) for _ in range(3)]
        assert [one["role"] for one in followers] == ["follower"] * 3
        assert [one["queue_position"] for one in followers] == [4] * 3, "as their leader, not behind it"
        await filled(gateway, "leaders", 1, 4)
        for turn, leader in enumerate(leaders):
            await held(simulator, f"turn-{turn}")
            assert simulator.stats()["holding"] == {f"turn-{turn}": 1}, "one at a time"
            await placed(client, leaders[turn + 1 :], list(range(1, 5 - turn)))
            simulator.release(f"turn-{turn}")
            await client.until_status(leader["id"], "ready")
        assert simulator.stats()["prepare"]["calls"] == 5
        assert simulator.stats()["prepare"]["peak"] == 1
