"""Ids: repeats of a submit, repeats of a cancel, and ids that are not yours."""

from __future__ import annotations

import asyncio

import pytest

from tests.fakes.eventually import eventually
from tests.system.client import Client
from tests.system.crew import crew, pinned
from tests.system.prompts import answer_to, prompt
from tests.system.scene import Simulate, Start, accepted, at_rest, calls_of, held, hook_of, over, together

pytestmark = pytest.mark.anyio

KEYS = "one:key-of-one-1234,two:key-of-two-5678"


async def test_a_repeated_submit_is_the_same_request(simulate: Simulate, start: Start) -> None:
    """Row 41: same request_id and body, by field or by header: 200, one id, one execution, one result."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator)
    question = prompt("row 41", hold="gate", hold_after=1, tokens=4)
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        first = await accepted(client, question, request_id="r-1")
        reading = group.create_task(client.stream(first["stream_url"]))
        await held(simulator, "gate")
        by_field = await client.submit(question, request_id="r-1")
        by_header = await client.submit(question, headers={"idempotency-key": "r-1"})
        listed = await client.call(
            "POST",
            "/chat",
            json={
                "priority": "batch",
                "messages": [{"content": question, "role": "user"}],
                "request_id": "r-1",
            },
        )
        for repeat in (by_field, by_header, listed):
            assert repeat.status == 200, repeat.body
            assert {**repeat.json, "status": ""} == {**first, "status": ""}
        simulator.release("gate")
        text = (await reading).text
        await over(gateway)
        after_the_end = await client.submit(question, request_id="r-1")
        assert (after_the_end.status, after_the_end.json["id"]) == (200, first["id"])
        assert after_the_end.json["status"] == "completed"
        assert (await client.stream(after_the_end.json["stream_url"])).text == text == answer_to(question, 4)
    assert simulator.stats()["calls"] == 1
    assert gateway.get("/pipeline")["totals"]["requests"] == 1


async def test_a_request_id_used_for_something_else_is_refused(simulate: Simulate, start: Start) -> None:
    """Row 41: the same id with another body is a 409 that names the field, and leaves the first as it was."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator)
    async with Client(gateway.url) as client:
        first = await accepted(client, "one thing", request_id="r-2")
        for other in (
            await client.submit("another thing", request_id="r-2"),
            await client.submit("one thing", request_id="r-2", temperature=0.5),
            await client.submit("another thing", headers={"idempotency-key": "r-2"}),
        ):
            assert other.status == 409
            assert other.error["param"] == "request_id"
            assert "one thing" not in other.body.decode()
        assert (await client.stream(first["stream_url"])).end.name == "done"
    assert simulator.stats()["calls"] == 1


async def test_simultaneous_repeats_are_one_request(simulate: Simulate, start: Start) -> None:
    """Row 41: ten copies at the same moment: one 202, nine 200, one id, one call, one request counted."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator, LOCAL_CACHE_BYTES=0)
    async with Client(gateway.url) as client:
        replies = await together(client.submit("at once", request_id="r-3") for _ in range(10))
        assert sorted(reply.status for reply in replies) == [200] * 9 + [202]
        assert len({reply.json["id"] for reply in replies}) == 1
        assert {reply.json["role"] for reply in replies} == {"leader"}
        assert (await client.stream(replies[0].json["stream_url"])).end.name == "done"
    assert simulator.stats()["calls"] == 1
    assert gateway.get("/pipeline")["totals"]["requests"] == 1


async def test_a_repeat_tells_how_it_ended_even_if_badly(simulate: Simulate, start: Start) -> None:
    """Row 41: a failed or cancelled request is answered with that same record, not tried again."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator)
    failing = prompt("fails", status=400)
    async with Client(gateway.url) as client:
        failed = await accepted(client, failing, request_id="f")
        assert (await client.stream(failed["stream_url"])).end.name == "failed"
        cancelled = await accepted(client, "cancelled", request_id="c")
        await client.cancel(cancelled["id"])
        for first, question, request_id, status in (
            (failed, failing, "f", "failed"),
            (cancelled, "cancelled", "c", "cancelled"),
        ):
            repeat = await client.submit(question, request_id=request_id)
            assert (repeat.status, repeat.json["id"], repeat.json["status"]) == (200, first["id"], status)
    assert calls_of(simulator, failing) == 1
    assert calls_of(simulator, "cancelled") == 0


async def test_a_refused_submit_does_not_use_up_its_request_id(simulate: Simulate, start: Start) -> None:
    """Row 41: after a 429 the same request_id is new, also for another body."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator, PREPARE_URL=hook_of(simulator), MAX_CONCURRENT_LEADERS=1, QUEUE_SIZE=0)
    each = pinned(gateway, list(crew(gateway).values()))
    async with Client(gateway.url) as client, each as clients:
        doors = [prompt(f"busy {number}", prepare_hold="door") for number in range(len(clients))]
        busy = [await accepted(one, door) for one, door in zip(clients, doors, strict=True)]
        refused = await together(client.submit("shed", request_id="r-4") for _ in range(5))
        assert [(reply.status, reply.error["code"]) for reply in refused] == [(429, "queue_full")] * 5
        await held(simulator, "door", len(busy))
        simulator.release("door")
        for one in busy:
            await client.until_status(one["id"], "ready")
        assert (await accepted(client, "not shed", request_id="r-4"))["role"] == "leader"


async def test_a_request_id_is_forgotten_with_its_record(simulate: Simulate, start: Start) -> None:
    """Row 41: kept until retention ends, and not longer: then it is new, instead of naming what is gone."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator, RETENTION_S=0.2)
    async with Client(gateway.url) as client:
        first = await accepted(client, "for a while", request_id="r-5")
        assert (await client.stream(first["stream_url"])).end.name == "done"

        async def forgotten() -> bool:
            return (await client.call("GET", f"/chat/{first['id']}")).status == 404

        await eventually(forgotten)
        again = await accepted(client, "for a while", request_id="r-5")
        assert again["id"] != first["id"]
        assert (await client.stream(again["stream_url"])).end.name == "done"


async def test_request_ids_belong_to_their_tenant(simulate: Simulate, start: Start) -> None:
    """Row 41: two tenants may use the same request_id for different things, and share nothing by it."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator, API_KEYS=KEYS)
    async with Client(gateway.url, "key-of-one-1234") as one, Client(gateway.url, "key-of-two-5678") as two:
        first = await accepted(one, "same words", request_id="r-6")
        second = await accepted(two, "same words", request_id="r-6")
        assert (await accepted(two, "other words", request_id="r-7"))["role"] == "leader"
        assert first["id"] != second["id"]
        assert second["role"] == "leader"


async def test_a_cancel_can_be_repeated_and_can_come_too_late(simulate: Simulate, start: Start) -> None:
    """Row 38: the second cancel is a no-op, one after the end a 409, and neither changes what is known."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator)
    failing = prompt("fails", truncate=2)
    async with Client(gateway.url) as client:
        cancelled = await accepted(client, "cancelled")
        replies = [await client.cancel(cancelled["id"]) for _ in range(3)]
        assert [reply.status for reply in replies] == [200] * 3
        assert replies[0].json == replies[1].json == replies[2].json == await client.record(cancelled["id"])
        for question, status in (("read", "completed"), ("read", "completed"), (failing, "failed")):
            ended = await accepted(client, question)
            await client.stream(ended["stream_url"])
            before = await client.record(ended["id"])
            late = await client.cancel(ended["id"])
            assert (late.status, late.error["code"]) == (409, "conflict")
            assert await client.record(ended["id"]) == before
            assert before["status"] == status
    await at_rest(gateway)


async def test_an_id_of_somebody_else_is_like_one_that_is_not(simulate: Simulate, start: Start) -> None:
    """Row 38: foreign and unknown ids give the same 404, and what they name goes on untouched."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator, API_KEYS=KEYS)
    async with Client(gateway.url, "key-of-one-1234") as one, Client(gateway.url, "key-of-two-5678") as two:
        mine = await accepted(one, "mine")
        unknown = "chat_" + "0" * 32
        for method, path in (("POST", "/chat/{}/cancel"), ("GET", "/chat/{}"), ("GET", "/chat/{}/stream")):
            foreign = await two.call(method, path.format(mine["id"]))
            nobody = await two.call(method, path.format(unknown))
            assert (foreign.status, foreign.body) == (404, nobody.body)
            assert nobody.status == 404
        await one.until_status(mine["id"], "ready")
        assert (await one.stream(mine["stream_url"])).end.name == "done"
    assert simulator.stats()["calls"] == 1
