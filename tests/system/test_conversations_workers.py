"""Conversations over several workers: one order, every turn found, read and cancelled through any of them."""

from __future__ import annotations

import asyncio
import os
import signal

import aiohttp
import pytest

from tests.fakes.eventually import eventually
from tests.system.client import Client, Stream
from tests.system.crew import crew, pinned, stopped
from tests.system.processes import SimulatorProcess
from tests.system.prompts import prompt
from tests.system.scene import SOON_S, Simulate, Start, held, together
from tests.system.talk import TOKENS, alone, answered, answers, history, idle, kept, say

pytestmark = pytest.mark.anyio

#: Longer than any lease, so that what goes on within a test went on because of a death that was seen.
LONG_LEASE_S = 120
#: The lease of a turn, and time to notice.
LEASE_S = 10.0 + 5.0


@pytest.fixture
def simulator(simulate: Simulate) -> SimulatorProcess:
    return simulate(ttft=0, tps=0, tokens=TOKENS)


async def test_turns_keep_their_order_whichever_worker_takes_them(
    simulator: SimulatorProcess, start: Start
) -> None:
    """Submitted to two in turn, read through the other one: each is asked with all before it."""
    gateway = start(simulator, workers=2)
    questions = [prompt("turn 0", hold="gate"), *(f"turn {n}" for n in range(1, 5))]
    async with (
        pinned(gateway, list(crew(gateway).values())) as (one, two),
        Client(gateway.url) as client,
        asyncio.TaskGroup() as group,
    ):
        turns = [await say((one, two)[n % 2], question) for n, question in enumerate(questions)]
        reading = [group.create_task(client.stream(turn["stream_url"])) for turn in turns]
        await held(simulator, "gate")
        seen = await history(client)
        assert [seen["running"], *seen["waiting"]] == [turn["id"] for turn in turns]
        busy = await one.submit("one too many", conversation_id="c")
        assert busy.status == 409
        simulator.release("gate")
        assert [(await stream).text for stream in reading] == answers(*questions)
        await kept(client, turns[4]["id"])
        assert [turn["id"] for turn in (await history(client))["turns"]] == [turn["id"] for turn in turns]
    await eventually(gateway.at_rest)


async def test_whoever_waits_elsewhere_is_shown_and_read(simulator: SimulatorProcess, start: Start) -> None:
    """The other worker knows its place, streams it, and goes on with its answer on the same connection."""
    gateway = start(simulator, workers=2)
    async with (
        pinned(gateway, list(crew(gateway).values())) as (one, two),
        Client(gateway.url) as client,
        asyncio.TaskGroup() as group,
    ):
        question = prompt("one", hold="gate")
        first = await say(one, question)
        reading = group.create_task(client.stream(first["stream_url"]))
        await held(simulator, "gate")
        second, third = await say(one, "two"), await say(one, "three")
        for number, turn in enumerate((second, third), 1):
            mine, theirs = await one.record(turn["id"]), await two.record(turn["id"])
            assert mine == theirs
            assert (mine["status"], mine["stage"]) == ("queued", "conversation")
            assert mine["queue_position"] == number
        foreign = group.create_task(two.stream(third["stream_url"]))
        own = group.create_task(client.stream(second["stream_url"]))
        simulator.release("gate")
        expected = answers(question, "two", "three")
        assert [(await stream).text for stream in (reading, own, foreign)] == expected
        assert foreign.result().statuses[0] == "queued"
        assert "reset" not in [event.name for event in foreign.result().events]
        missing = third["id"][:-3] + ("1" if third["id"][-3] == "0" else "0") + third["id"][-2:]
        assert (await two.call("GET", f"/chat/{missing}")).status == 404
    await eventually(gateway.at_rest)


async def test_whoever_waits_elsewhere_is_cancelled(simulator: SimulatorProcess, start: Start) -> None:
    """Through the other worker: 200, its stream ends everywhere; and all of a conversation by one call."""
    gateway = start(simulator, workers=2)
    async with (
        pinned(gateway, list(crew(gateway).values())) as (one, two),
        Client(gateway.url) as client,
        asyncio.TaskGroup() as group,
    ):
        first = await say(one, prompt("one", hold="gate"))
        reading = group.create_task(client.stream(first["stream_url"]))
        await held(simulator, "gate")
        second, third, fourth = [await say(one, f"turn {n}") for n in range(3)]
        waiting = [group.create_task(client.stream(turn["stream_url"])) for turn in (second, third, fourth)]
        reply = await two.cancel(second["id"])
        assert (reply.status, reply.json["status"]) == (200, "cancelled")
        async with asyncio.timeout(SOON_S):
            assert (await waiting[0]).end.name == "cancelled"
        assert (await two.cancel(second["id"])).status == 200
        reply = await two.call("POST", "/conversations/c/cancel")
        assert reply.json == {"cancelled": [turn["id"] for turn in (first, third, fourth)]}
        async with asyncio.timeout(SOON_S):
            assert [(await stream).end.name for stream in (reading, *waiting[1:])] == ["cancelled"] * 3
        await idle(client)
    assert simulator.stats()["calls"] == 1
    await eventually(gateway.at_rest)


async def test_a_repeated_request_id_finds_the_turn_elsewhere(
    simulator: SimulatorProcess, start: Start
) -> None:
    """Also while it waits there: one turn, and both are told the same id."""
    gateway = start(simulator, workers=2)
    async with (
        pinned(gateway, list(crew(gateway).values())) as (one, two),
        Client(gateway.url) as client,
        asyncio.TaskGroup() as group,
    ):
        question = prompt("one", hold="gate")
        first = await say(one, question)
        reading = group.create_task(client.stream(first["stream_url"]))
        await held(simulator, "gate")
        second = await say(one, "two", request_id="r")
        again = await two.submit("two", conversation_id="c", request_id="r")
        assert (again.status, again.json["id"], again.json["status"]) == (200, second["id"], "queued")
        assert (await two.submit("other", conversation_id="c", request_id="r")).status == 409
        simulator.release("gate")
        await reading
        assert (await client.stream(second["stream_url"])).text == answers(question, "two")[1]
        again = await two.submit("two", conversation_id="c", request_id="r")
        assert (again.status, again.json["id"]) == (200, second["id"])
        await kept(client, second["id"])
        assert len((await history(client))["turns"]) == 2
    await eventually(gateway.at_rest)


@pytest.mark.parametrize("seen", [True, False], ids=["seen", "unseen"])
async def test_a_killed_worker_holds_nobody_up(simulator: SimulatorProcess, start: Start, seen: bool) -> None:
    """kill -9 of who has the turn that runs: the next goes on at once, or, unseen, within its lease."""
    gateway = start(simulator, workers=2, LEASE_S=LONG_LEASE_S)
    workers = crew(gateway)
    async with pinned(gateway, [workers[1], workers[2]]) as (doomed, other), asyncio.TaskGroup() as group:
        assert (await answered(other, "zero")).end.name == "done"
        first = await say(doomed, prompt("one", hold="gate"))
        cut = group.create_task(_cut(doomed, first["stream_url"]))
        await held(simulator, "gate")
        second = await say(other, "two")
        if seen:
            os.kill(workers[1], signal.SIGKILL)
        else:
            os.kill(workers[1], signal.SIGSTOP)
        async with asyncio.timeout(LEASE_S):
            stream: Stream = await other.stream(second["stream_url"])
        assert stream.text == answers("zero", "two")[1]
        if not seen:
            simulator.release("gate")
            os.kill(workers[1], signal.SIGCONT)
        await cut
        await kept(other, second["id"])
        await idle(other)
        turns = [turn["messages"][0]["content"] for turn in (await history(other))["turns"]]
        assert turns == ["zero", "two"], "what was overtaken is not put in afterwards"


async def test_a_turn_that_waited_in_a_killed_worker_ends_honestly(
    simulator: SimulatorProcess, start: Start
) -> None:
    """`worker_lost`, through whichever worker its client asks next; the line goes on without it."""
    gateway = start(simulator, workers=2, LEASE_S=LONG_LEASE_S)
    workers = crew(gateway)
    async with pinned(gateway, [workers[1], workers[2]]) as (doomed, other), asyncio.TaskGroup() as group:
        question = prompt("one", hold="gate")
        first = await say(other, question)
        reading = group.create_task(_read(gateway.url, first["stream_url"], workers[2], workers[1]))
        await held(simulator, "gate")
        lost = await say(doomed, "lost")
        third = await say(other, "three")
        os.kill(workers[1], signal.SIGKILL)
        record = await other.until_status(lost["id"], "failed", within=LEASE_S)
        assert record["text"] == ""
        stream = await other.stream(lost["stream_url"])
        assert (stream.end.name, stream.end.json["code"]) == ("failed", "worker_lost")
        simulator.release("gate")
        await reading
        assert (await other.stream(third["stream_url"])).text == answers(question, "three")[1]


async def test_both_workers_at_the_same_moment(simulator: SimulatorProcess, start: Start) -> None:
    """Twenty conversations, two submits of each at once through two workers: always one after the other."""
    gateway = start(simulator, workers=2)

    async def race(one: Client, two: Client, reader: Client, number: int) -> None:
        turns = await together(
            say(client, f"{number} {name}", f"c{number}") for client, name in ((one, "a"), (two, "b"))
        )
        texts = [s.text for s in await together(reader.stream(turn["stream_url"]) for turn in turns)]
        a, b = f"{number} a", f"{number} b"
        assert texts in ([alone(a), answers(a, b)[1]], [answers(b, a)[1], alone(b)])

    async with (
        pinned(gateway, list(crew(gateway).values())) as (one, two),
        Client(gateway.url) as reader,
    ):
        for number in range(20):
            await race(one, two, reader, number)
    await eventually(gateway.at_rest)


async def _cut(client: Client, url: str) -> None:
    """Read what may be cut at any moment."""
    try:
        await client.stream(url)
    except aiohttp.ClientError:
        return


async def _read(url: str, path: str, mine: int, other: int) -> str:
    """Through a worker that lives on."""
    async with Client(url) as client:
        with stopped(other):
            reply = client.http.get(path)
            response = await reply
        return (await response.read()).decode()
