"""Preparation from outside: what the hook may decide, how it fails, and when its call is given up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from processing.planning import INSTRUCTION, PREFIX
from tests.fakes.eventually import eventually
from tests.system.client import Client, text_of
from tests.system.crew import crew, pinned
from tests.system.prompts import prompt
from tests.system.scene import (
    SOON_S,
    Simulate,
    Start,
    accepted,
    at_rest,
    filled,
    held,
    hook_of,
    together,
)
from upstream.simulator.answers import answer_tokens
from upstream.simulator.prepare import prepared_message

pytestmark = pytest.mark.anyio


def user(question: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": question}]


def prepared(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*messages, prepared_message(messages)]


async def test_the_model_gets_what_the_hook_made_of_the_request(simulate: Simulate, start: Start) -> None:
    """Issue part 6: the hook's messages and model go upstream, parameters stay, both wires share it."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator, PREPARE_URL=hook_of(simulator))
    question = prompt("the hook decides", prepare_model="hooked-model")
    async with Client(gateway.url) as client:
        stream = await client.ask(question, max_tokens=7)
        reply, frames = await client.chunks(question, max_tokens=7)
    assert stream.text == "".join(answer_tokens(prepared(user(question)), 7))
    assert stream.end.json["finish_reason"] == "length"
    assert text_of(frames) == stream.text
    assert "hit" in reply.headers["cache-status"]
    seen = simulator.stats()
    assert seen["calls_by_model"] == {"hooked-model": 1}
    assert seen["prepare"]["calls"] == 1, "a hit is not prepared"


async def test_the_plan_becomes_part_of_the_prompt(simulate: Simulate, start: Start) -> None:
    """Issue part 6: hook, then plan, then answer: each is asked with what the one before it made."""
    simulator = simulate(ttft=0, tps=0, tokens=9)
    gateway = start(simulator, PREPARE_URL=hook_of(simulator), PREPARE_MODEL="planner")
    async with Client(gateway.url) as client:
        stream = await client.ask("what is the plan?")
    hooked = prepared(user("what is the plan?"))
    plan = "".join(answer_tokens([{"role": "system", "content": INSTRUCTION}, *hooked], 9))
    planned = [{"role": "system", "content": PREFIX + plan}, *hooked]
    assert stream.text == "".join(answer_tokens(planned, 9))
    assert simulator.stats()["calls_by_model"] == {"planner": 1, "refrain-sim": 1}
    await at_rest(gateway)


async def test_the_hook_may_forbid_storing(simulate: Simulate, start: Start) -> None:
    """Issue part 6: `store: false`, or a TTL of 0: shared while it runs, then asked anew, never `stored`."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator, PREPARE_URL=hook_of(simulator))
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        for number, (name, value) in enumerate({"prepare_store": 0, "prepare_ttl": 0}.items(), start=1):
            question = prompt(f"do not keep: {name}", **{name: value}, hold=name, hold_after=1)
            leader, follower = [await accepted(client, question) for _ in range(2)]
            reading = [group.create_task(client.stream(one["stream_url"])) for one in (leader, follower)]
            await held(simulator, name)
            assert follower["role"] == "follower"
            simulator.release(name)
            assert {(await stream).text for stream in reading} == {(await reading[0]).text}
            await at_rest(gateway)  # what has just ended here may still be followed elsewhere
            whole = await client.complete(question)
            assert whole.headers["cache-status"] == "refrain; fwd=miss", name
            await at_rest(gateway)
            assert (await client.ask(question)).end.json["cache"] == "miss"
            assert simulator.stats()["calls"] == 3 * number
    await at_rest(gateway)


async def test_the_hook_may_shorten_the_ttl_and_not_lengthen_it(simulate: Simulate, start: Start) -> None:
    """Issue part 6: `ttl_s` is how long a hit may be had, up to what is configured."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator, PREPARE_URL=hook_of(simulator), CACHE_TTL_S=5000)
    async with Client(gateway.url) as client:
        for ttl, least, most in ((1000, 900, 1000), (9000, 4900, 5000)):
            question = prompt(f"ttl {ttl}", prepare_ttl=ttl)
            await client.ask(question)
            hit = await client.complete(question)
            name, _, shown = hit.headers["cache-status"].rpartition("ttl=")
            assert name == "refrain; hit; "
            assert least <= int(shown) <= most
        brief = prompt("brief", prepare_ttl=0.2)
        await client.ask(brief)

        async def asked_anew() -> bool:
            return bool((await client.ask(brief)).end.json["cache"] == "miss")

        await eventually(asked_anew)


FAILURES = {
    "refuses": {"prepare_status": 422},
    "breaks": {"prepare_status": 503},
    "talks nonsense": {"prepare_garbage": 1},
}


@pytest.mark.parametrize("kind", FAILURES)
async def test_a_failing_hook_fails_the_flight(simulate: Simulate, start: Start, kind: str) -> None:
    """Issue part 6: all get `prepare_failed`, the model is not asked, the next one starts fresh."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator, PREPARE_URL=hook_of(simulator), MAX_CONCURRENT_LEADERS=1)
    question = prompt(kind, **FAILURES[kind], prepare_hold="door")
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        ones = [await accepted(client, question) for _ in range(2)]
        whole = group.create_task(client.complete(question))
        await filled(gateway, "leaders", 1, 0)
        await eventually(lambda: gateway.get("/pipeline")["totals"]["joins"] == 2)
        simulator.release("door")
        streams = [await client.stream(one["stream_url"]) for one in ones]
        assert [stream.end.json["code"] for stream in streams] == ["prepare_failed"] * 2
        assert (await client.record(ones[0]["id"]))["status"] == "failed"
        assert ((await whole).status, (await whole).error["code"]) == (502, "prepare_failed")
        assert simulator.stats()["prepare"]["calls"] == 1, "a hook is never asked twice for one flight"
        assert (await client.ask(question)).end.json["code"] == "prepare_failed"
        assert simulator.stats()["prepare"]["calls"] == 2
    assert simulator.stats()["calls"] == 0
    await at_rest(gateway)


async def test_a_hook_that_cannot_be_reached_is_a_failed_preparation(
    simulate: Simulate, start: Start
) -> None:
    """Issue part 6: nobody listens there: an error for this request, and the gateway goes on."""
    simulator = simulate(ttft=0, tps=0)
    elsewhere = simulate()
    gateway = start(simulator, PREPARE_URL=hook_of(elsewhere), MAX_CONCURRENT_LEADERS=1)
    elsewhere.kill()
    async with Client(gateway.url) as client:
        for _ in range(3):
            stream = await client.ask("is the hook there?")
            assert stream.end.json["code"] == "prepare_failed"
            assert "127.0.0.1" not in stream.end.data, "an address is nobody's business"
    assert simulator.stats()["calls"] == 0
    await at_rest(gateway)


async def test_a_slow_hook_is_given_up_by_a_timer_of_its_own_stage(simulate: Simulate, start: Start) -> None:
    """Issue part 6: beyond PREPARE_TIMEOUT call and slot are given up; time in the queue does not count."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator, PREPARE_URL=hook_of(simulator), PREPARE_TIMEOUT_S=1, MAX_CONCURRENT_LEADERS=1)
    slow = [prompt(f"slow {number}", prepare_hold="never") for number in range(2)]
    first = pinned(gateway, list(crew(gateway).values())[:1])
    async with Client(gateway.url) as client, first as (queuing,), asyncio.TaskGroup() as group:
        ones = [await accepted(queuing, question) for question in slow]
        whole = group.create_task(client.complete(slow[1]))
        queued = await accepted(queuing, "quick")
        await filled(gateway, "leaders", 1, 2)
        streams = await together(client.stream(one["stream_url"]) for one in ones)
        assert [(stream.end.name, stream.end.json["code"]) for stream in streams] == [
            ("failed", "prepare_timeout")
        ] * 2
        assert ((await whole).status, (await whole).error["code"]) == (504, "prepare_timeout")
        assert (await client.record(ones[0]["id"]))["status"] == "failed"
        assert (await client.stream(queued["stream_url"])).end.name == "done"
        record = await client.record(queued["id"])
        assert record["timings"]["queue_ms"] > 1000, "longer than the timer that did not run meanwhile"
        seen = simulator.stats()["prepare"]
        assert (seen["calls"], seen["aborted"], seen["completed"]) == (3, 2, 1)
    assert simulator.stats()["calls"] == 1
    await at_rest(gateway)


async def test_the_hook_is_left_alone_when_nobody_waits_any_more(simulate: Simulate, start: Start) -> None:
    """Issue part 6: the last interested one cancels or hangs up: the hook's call is aborted."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator, PREPARE_URL=hook_of(simulator), ABANDON_GRACE_S=0, MAX_CONCURRENT_LEADERS=1)
    question = prompt("nobody waits", prepare_hold="never")
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        leader, follower = [await accepted(client, question) for _ in range(2)]
        await held(simulator, "never")
        await client.cancel(leader["id"])
        await held(simulator, "never")
        await client.cancel(follower["id"])
        await eventually(lambda: simulator.stats()["prepare"]["aborted"] == 1, within=SOON_S)

        dropped = await accepted(client, question)
        async with client.listening(dropped["stream_url"]):
            await held(simulator, "never")
        await eventually(lambda: simulator.stats()["prepare"]["aborted"] == 2, within=SOON_S)
        assert (await client.record(dropped["id"]))["status"] == "cancelled"

        hanging_up = group.create_task(client.complete(question))
        await held(simulator, "never")
        hanging_up.cancel()
        await eventually(lambda: simulator.stats()["prepare"]["aborted"] == 3, within=SOON_S)
        assert (await client.ask("free again")).end.name == "done"
    assert simulator.stats()["calls"] == 1
    await at_rest(gateway)


async def test_a_failed_plan_fails_the_flight_and_gives_its_slot_back(
    simulate: Simulate, start: Start
) -> None:
    """Issue part 6: the planning call's error is the flight's; a transient one is tried again."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator, PREPARE_MODEL="planner", MAX_CONCURRENT_LLM_CALLS=1)
    async with Client(gateway.url) as client:
        refused = await client.ask(prompt("no plan", status=400))
        assert refused.end.name == "failed"
        assert simulator.stats()["calls_by_model"] == {"planner": 1}
        again = await client.ask(prompt("plan at the second try", status=503, times=1))
        assert again.end.name == "done", "a call that was refused for a moment"
        # The answer is another prompt than the plan's: it meets the refusal, and its second try, as well.
        assert simulator.stats()["calls_by_model"] == {"planner": 3, "refrain-sim": 2}
    await at_rest(gateway)
