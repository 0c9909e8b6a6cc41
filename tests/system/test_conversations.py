"""Conversations with the real program: what the model is asked, who waits, what is kept and cancelled."""

from __future__ import annotations

import asyncio

import pytest

from tests.system.client import Client, Stream
from tests.system.processes import SimulatorProcess
from tests.system.prompts import prompt
from tests.system.scene import SOON_S, Simulate, Start, at_rest, held, together
from tests.system.talk import TOKENS, alone, answered, answers, history, idle, kept, say, show

pytestmark = pytest.mark.anyio

ACME, GLOBEX = "acme-key-1", "globex-key-2"


@pytest.fixture
def simulator(simulate: Simulate) -> SimulatorProcess:
    return simulate(ttft=0, tps=0, tokens=TOKENS)


async def test_the_second_turn_contains_the_first(simulator: SimulatorProcess, start: Start) -> None:
    """Row 6: after two turns the second prompt contains the first, and the history lists both in order."""
    gateway = start(simulator)
    async with Client(gateway.url) as client:
        streams = [await answered(client, question) for question in ("one", "two", "three")]
        expected = answers("one", "two", "three")
        assert [stream.text for stream in streams] == expected
        seen = await history(client)
        assert [turn["messages"] for turn in seen["turns"]] == [
            [{"role": "user", "content": question}] for question in ("one", "two", "three")
        ]
        assert [turn["answer"] for turn in seen["turns"]] == expected
        assert [turn["finish_reason"] for turn in seen["turns"]] == ["stop"] * 3
        assert [turn["usage"]["completion_tokens"] for turn in seen["turns"]] == [TOKENS] * 3
        assert 86_000 < seen["expires_in_s"] <= 86_400
        await idle(client)
    await at_rest(gateway)


async def test_one_call_cancels_all_of_a_conversation(simulator: SimulatorProcess, start: Start) -> None:
    """Row 5: three live requests of one conversation end cancelled after one call; another's continues."""
    gateway = start(simulator)
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        other = await say(client, prompt("other", hold="other"), "d")
        others = group.create_task(client.stream(other["stream_url"]))
        turns = [await say(client, prompt(f"turn {n}", hold="gate")) for n in range(3)]
        reading = [group.create_task(client.stream(turn["stream_url"])) for turn in turns]
        await held(simulator, "gate")
        await held(simulator, "other")
        reply = await client.call("POST", "/conversations/c/cancel")
        assert reply.status == 200
        assert reply.json == {"cancelled": [turn["id"] for turn in turns]}
        async with asyncio.timeout(SOON_S):
            assert [(await stream).end.name for stream in reading] == ["cancelled"] * 3
        for turn in turns:
            await client.until_status(turn["id"], "cancelled", within=SOON_S)
        await idle(client)
        assert (await show(client)).status == 404, "nothing was said"
        simulator.release("other")
        assert (await others).end.name == "done"
        await kept(client, other["id"], "d")
    assert simulator.stats()["aborted"] == 1
    await at_rest(gateway)


async def test_four_wait_in_order_and_a_fifth_is_told_to_come_back(
    simulator: SimulatorProcess, start: Start
) -> None:
    """Each stream shows its place, and goes on on the same connection with the answer to all before it."""
    gateway = start(simulator)
    questions = [prompt("turn 0", hold="gate"), *(f"turn {n}" for n in range(1, 5))]
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        turns = [await say(client, question) for question in questions]
        first = group.create_task(client.stream(turns[0]["stream_url"]))
        await held(simulator, "gate")
        assert [(turn["status"], turn["role"], turn["queue_position"]) for turn in turns[1:]] == [
            ("queued", "leader", place) for place in (1, 2, 3, 4)
        ]
        reading = [group.create_task(client.stream(turn["stream_url"])) for turn in turns[1:]]
        record = await client.record(turns[2]["id"])
        assert (record["status"], record["stage"], record["queue_position"]) == ("queued", "conversation", 2)
        busy = await client.submit("one too many", conversation_id="c")
        assert (busy.status, busy.error["code"]) == (409, "conversation_busy")
        assert busy.headers["x-refrain-reason"] == "conversation_busy"
        assert gateway.stage("leaders")["waiting"] == 0, "whoever waits here is in no stage"
        assert gateway.get("/pipeline")["totals"]["turns_waiting"] == 4, "and is seen all the same"
        assert gateway.metrics()["refrain_turns_waiting"] == 4
        simulator.release("gate")
        streams = [await first, *[await one for one in reading]]
        assert [stream.text for stream in streams] == answers(*questions)
        for stream in streams[1:]:
            assert stream.statuses[0] == "queued"
            assert "reset" not in [event.name for event in stream.events]
            assert stream.end.name == "done"
        await kept(client, turns[4]["id"])
        assert [turn["id"] for turn in (await history(client))["turns"]] == [turn["id"] for turn in turns]
        assert gateway.get("/pipeline")["totals"]["turns_waiting"] == 0
    await at_rest(gateway)


async def test_whoever_waits_is_cancelled_at_once(simulator: SimulatorProcess, start: Start) -> None:
    """Its stream ends with `cancelled`, the model is never asked, and the next one goes on without it."""
    gateway = start(simulator)
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        first = await say(client, prompt("one", hold="gate"))
        reading = group.create_task(client.stream(first["stream_url"]))
        await held(simulator, "gate")
        second, third = await say(client, "two"), await say(client, "three")
        waiting = group.create_task(client.stream(second["stream_url"]))
        last = group.create_task(client.stream(third["stream_url"]))
        await client.until_status(second["id"], "queued")
        reply = await client.cancel(second["id"])
        assert (reply.status, reply.json["status"]) == (200, "cancelled")
        assert (await client.cancel(second["id"])).status == 200
        async with asyncio.timeout(SOON_S):
            stream = await waiting
        assert (stream.end.name, stream.statuses) == ("cancelled", ["queued"])
        again = await client.stream(second["stream_url"])
        assert [event.name for event in again.events] == ["cancelled"]
        simulator.release("gate")
        assert [(await reading).text, (await last).text] == answers(prompt("one", hold="gate"), "three")
    await at_rest(gateway)


@pytest.mark.parametrize("how", ["failed", "cancelled"])
async def test_what_was_not_answered_was_not_said(
    simulator: SimulatorProcess, start: Start, how: str
) -> None:
    """The one behind it is asked as if it had not been."""
    gateway = start(simulator)
    question = prompt("one", hold="gate", hold_after=2, **({"error_frame": 3} if how == "failed" else {}))
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        first = await say(client, question)
        reading = group.create_task(client.stream(first["stream_url"]))
        await held(simulator, "gate")
        second = await say(client, "two")
        waiting = group.create_task(client.stream(second["stream_url"]))
        if how == "failed":
            simulator.release("gate")
        else:
            await client.cancel(first["id"])
        assert (await reading).end.name == how
        assert (await waiting).text == alone("two")
        await kept(client, second["id"])
        assert [turn["id"] for turn in (await history(client))["turns"]] == [second["id"]]
    await at_rest(gateway)


async def test_a_stream_that_was_cut_while_it_waited_comes_back(
    simulator: SimulatorProcess, start: Start
) -> None:
    """Leaving is no cancel. Its cursor is the beginning: while it waits, and afterwards, by a reset."""
    gateway = start(simulator)
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        first = await say(client, prompt("one", hold="gate"))
        reading = group.create_task(client.stream(first["stream_url"]))
        await held(simulator, "gate")
        second = await say(client, "two")
        async with client.listening(second["stream_url"]) as (reply, events, reader):
            assert reply.status == 200
            assert reply.headers["x-refrain-id"] == second["id"]
            assert (await anext(events)).json["stage"] == "conversation"
            assert reader.last_id == "0-0"
            assert reader.retry is not None
        async with client.listening(second["stream_url"], last_event_id="0-0") as (reply, events, _):
            assert (await anext(events)).json["queue_position"] == 1
        assert (await client.call("HEAD", second["stream_url"])).status == 200
        for cursor in ("0-1", "5-0", "nonsense"):
            bad = await client.stream(second["stream_url"], last_event_id=cursor)
            assert bad.status == 400
        simulator.release("gate")
        await reading
        late = await client.stream(second["stream_url"], last_event_id="0-0")
        assert late.text == answers(prompt("one", hold="gate"), "two")[1]
        assert late.end.name == "done"
    await at_rest(gateway)


async def test_nobody_waits_for_ever(simulator: SimulatorProcess, start: Start) -> None:
    """The queue timer: status `expired`, code `queue_timeout`, on the stream that was open all the time."""
    gateway = start(simulator, QUEUE_TIMEOUT_S=1)
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        first = await say(client, prompt("one", hold="gate"))
        group.create_task(client.stream(first["stream_url"]))
        await held(simulator, "gate")
        second = await say(client, "two")
        stream = await client.stream(second["stream_url"])
        assert (stream.end.name, stream.end.json["code"]) == ("failed", "queue_timeout")
        record = await client.until_status(second["id"], "expired")
        assert record["timings"]["queue_ms"] >= 1000
        simulator.release("gate")
        await idle(client)
    await at_rest(gateway)


async def test_a_drain_tells_whoever_waits(simulator: SimulatorProcess, start: Start) -> None:
    """One terminal event, `draining`; what runs is answered in full, and the process ends with 0."""
    gateway = start(simulator)
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        first = await say(client, prompt("one", hold="gate"))
        reading = group.create_task(client.stream(first["stream_url"]))
        await held(simulator, "gate")
        second = await say(client, "two")
        waiting = group.create_task(client.stream(second["stream_url"]))
        await client.until_status(second["id"], "queued")
        gateway.signal(15)
        stream = await waiting
        assert (stream.end.name, stream.end.json["code"]) == ("failed", "draining")
        simulator.release("gate")
        assert (await reading).end.name == "done"
    assert gateway.wait() == 0


async def test_a_repeated_request_id_is_the_same_turn(simulator: SimulatorProcess, start: Start) -> None:
    """Behind another and afterwards: one turn, whoever was asked; another body is a conflict."""
    gateway = start(simulator)
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        first = await say(client, prompt("one", hold="gate"))
        reading = group.create_task(client.stream(first["stream_url"]))
        await held(simulator, "gate")

        async def submit(message: str, conversation: str = "c") -> tuple[int, str]:
            reply = await client.submit(message, conversation_id=conversation, request_id="r")
            return reply.status, reply.json.get("id", "")

        both = sorted(await together(submit("two") for _ in range(4)))
        assert [status for status, _ in both] == [200, 200, 200, 202]
        assert len({id for _, id in both}) == 1
        id = both[0][1]
        assert (await submit("other"))[0] == 409
        assert (await submit("two", "d"))[0] == 409
        simulator.release("gate")
        await reading
        stream = await client.stream(f"/chat/{id}/stream")
        assert stream.text == answers(prompt("one", hold="gate"), "two")[1]
        assert await submit("two") == (200, id)
        await kept(client, id)
        assert len((await history(client))["turns"]) == 2
    await at_rest(gateway)


async def test_fifty_conversations_at_once(simulator: SimulatorProcess, start: Start) -> None:
    """Three turns of each submitted together, streams open: 150 answers, each with its own history alone."""
    gateway = start(simulator)

    async def one(client: Client, number: int) -> list[str]:
        questions = [f"{number}, turn {turn}" for turn in range(3)]
        turns = [await say(client, question, f"c{number}") for question in questions]
        streams: list[Stream] = await together(client.stream(turn["stream_url"]) for turn in turns)
        assert [stream.text for stream in streams] == answers(*questions)
        await kept(client, turns[-1]["id"], f"c{number}")
        return [turn["id"] for turn in (await history(client, f"c{number}"))["turns"]]

    async with Client(gateway.url) as client:
        ids = await together(one(client, number) for number in range(50))
    assert len({id for each in ids for id in each}) == 150
    await at_rest(gateway)
