"""Sharing: one preparation and one generation for all who ask the same, whenever they come."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from tempfile import TemporaryDirectory

import pytest
from redis import Redis

from tests.fakes.eventually import eventually
from tests.system.client import Client, Stream
from tests.system.crew import crew, pinned
from tests.system.processes import GatewayProcess, workers
from tests.system.prompts import answer_to, prompt
from tests.system.scene import (
    Simulate,
    Start,
    accepted,
    at_rest,
    calls_of,
    embedded_socket,
    filled,
    held,
    hook_of,
    together,
)
from tests.system.sse import Event

pytestmark = pytest.mark.anyio

PROCESSES = workers()


async def test_ten_at_once_cost_one_preparation_and_one_generation(simulate: Simulate, start: Start) -> None:
    """Row 22: ten identical simultaneous submits: hook and model see one each, the texts are equal."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator, PREPARE_URL=hook_of(simulator))
    question = prompt("row 22", prepare_hold="door", hold="gate", hold_after=3)
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        submitted = await together(accepted(client, question) for _ in range(10))
        assert sorted(one["role"] for one in submitted) == ["follower"] * 9 + ["leader"]
        assert len({one["id"] for one in submitted}) == 10
        reading = [group.create_task(client.stream(one["stream_url"])) for one in submitted]
        await held(simulator, "door")
        simulator.release("door")
        await held(simulator, "gate")
        simulator.release("gate")
        streams = [await one for one in reading]
    assert len({stream.text for stream in streams}) == 1
    assert streams[0].text.startswith("Simulated answer ")
    assert len({stream.end.id for stream in streams}) == 1, "one log, one numbering"
    assert sorted(stream.end.json["cache"] for stream in streams) == ["coalesced"] * 9 + ["miss"]
    seen = simulator.stats()
    assert (seen["prepare"]["calls"], seen["calls"]) == (1, 1)
    await at_rest(gateway)


@pytest.mark.parametrize("cap", [3, 1])
async def test_any_number_of_followers_passes_a_small_follower_stage(
    simulate: Simulate, start: Start, cap: int
) -> None:
    """Row 25: forty at once: the cap is never exceeded, all are served, all permits come back."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator, MAX_CONCURRENT_FOLLOWERS=cap)
    question = prompt("row 25", hold="gate", hold_after=1, tokens=5)
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        leader = await accepted(client, question)
        leading = group.create_task(client.stream(leader["stream_url"]))
        await held(simulator, "gate")
        arrived = asyncio.Event()
        scraping = group.create_task(_scrape_followers(client, arrived))
        followers = await together(accepted(client, question) for _ in range(40))
        reading = [group.create_task(client.stream(one["stream_url"])) for one in followers]
        await filled(gateway, "followers", 0, 0)
        arrived.set()
        scraped = await scraping
        simulator.release("gate")
        texts = {(await one).text for one in [leading, *reading]}
    assert [one["role"] for one in followers] == ["follower"] * 40
    assert texts == {answer_to(question, 5)}
    assert scraped
    for in_use, admitted, released in scraped:
        assert in_use <= cap * PROCESSES
        assert admitted == released + in_use
    await at_rest(gateway)
    assert gateway.metrics()['refrain_stage_admitted_total{stage="followers"}'] == 40
    assert simulator.stats()["calls"] == 1


async def _scrape_followers(client: Client, until: asyncio.Event) -> list[tuple[float, float, float]]:
    """(in use, admitted, released) as often as the gateway tells."""
    scraped = []
    while not until.is_set():
        lines = (await client.call("GET", "/metrics")).body.decode().splitlines()
        values = dict(line.rsplit(" ", 1) for line in lines if 'stage="followers"' in line)
        names = ("in_use", "admitted_total", "released_total")
        in_use, admitted, released = (
            float(values[f'refrain_stage_{name}{{stage="followers"}}']) for name in names
        )
        scraped.append((in_use, admitted, released))
    return scraped


async def test_a_late_joiner_gets_all_from_the_start(simulate: Simulate, start: Start) -> None:
    """Row 27: joined after 300 events, it has the same sequence at once, and holds nobody up."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator)
    question = prompt("row 27", hold="gate", hold_after=300, tokens=400)
    async with Client(gateway.url) as client:
        leader = await accepted(client, question)
        async with client.listening(leader["stream_url"]) as (_, first, _r):
            early = await _deltas(first, 300)
            late_one = await accepted(client, question)
            assert late_one["role"] == "follower"
            async with client.listening(late_one["stream_url"]) as (_, second, _r2):
                late = await _deltas(second, 300)  # while the model waits: a replay, not the future
                silent = await accepted(client, question)
                async with client.listening(silent["stream_url"]):  # joins, and reads nothing at all
                    simulator.release("gate")
                    early += [event async for event in first]
                    late += [event async for event in second]
    assert _said(early) == _said(late)
    assert "".join(text for text, _ in _said(early)) == answer_to(question, 400)
    assert (early[-1].name, late[-1].name) == ("done", "done")
    assert early[-1].id == late[-1].id
    assert calls_of(simulator, question) == 1


async def _deltas(events: AsyncIterator[Event], last: int) -> list[Event]:
    """Up to the delta with that number."""
    seen: list[Event] = []
    while not seen or not seen[-1].id.endswith(f"-{last}"):
        event = await anext(events)
        if event.name == "delta":
            seen.append(event)
    return seen


def _said(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.json["text"], event.id) for event in events if event.name == "delta"]


LAST_MOMENT = ("follower", "coalesced")


async def test_there_is_no_gap_between_the_end_and_the_cache(simulate: Simulate, start: Start) -> None:
    """Row 28: the same question right after the last token: the full text, and no second call, every time."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator, LOCAL_CACHE_BYTES=0)
    async with Client(gateway.url) as client:
        for number in range(20):
            question = prompt(f"row 28, {number}", tokens=5)
            first = await client.ask(question)
            again = await accepted(client, question)
            second = await client.stream(again["stream_url"])
            assert second.text == first.text == answer_to(question, 5)
            seen = (again["role"], again["status"], second.end.json["cache"])
            # Another worker may hear of the end a moment after the reader: it follows what is over.
            assert seen == ("cached", "completed", "hit") or (PROCESSES > 1 and seen[::2] == LAST_MOMENT)
    assert simulator.stats()["calls"] == 20


def kept(redis: Redis) -> int:
    """The answers in it: all that a process alone has there, and one of the names of several."""
    return redis.dbsize() if PROCESSES == 1 else len(redis.keys("g:{b*}:c:*"))


async def test_an_answer_that_is_being_stored_is_found(simulate: Simulate, start: Start) -> None:
    """Row 28: between its last token and its place in Redis an answer is a hit all the same."""
    simulator = simulate(ttft=0, tps=0)
    with TemporaryDirectory(prefix="rf-") as root:
        gateway = start(simulator, LOCAL_CACHE_BYTES=0, XDG_RUNTIME_DIR=root)
        async with (
            pinned(gateway, [crew(gateway)[1]] * 2) as (other, client),
            asyncio.TaskGroup() as group,
        ):
            question = prompt("row 28", hold="stored")
            with Redis(unix_socket_path=embedded_socket(root)) as redis:
                asked = group.create_task(other.ask(question))
                await held(simulator, "stored")
                redis.client_pause(60_000, all=False)  # it answers look-ups, and lets writes wait
                simulator.release("stored")
                first = await asked
                twins = await together(accepted(client, question) for _ in range(5))
                assert kept(redis) == 0
                redis.client_unpause()
                await eventually(lambda: kept(redis) == 1)
            assert [(twin["role"], twin["status"]) for twin in twins] == [("cached", "completed")] * 5
            streams = await together(client.stream(twin["stream_url"]) for twin in twins)
            assert {stream.text for stream in streams} == {first.text}
            assert (await client.ask(question)).end.json["cache"] == "hit"
    assert simulator.stats()["calls"] == 1


async def test_a_follower_is_served_though_its_leader_never_comes(simulate: Simulate, start: Start) -> None:
    """Row 30: the leader opens no stream, the follower does: the full answer, for both."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator)
    async with Client(gateway.url) as client:
        ghost = await accepted(client, "is anybody there?")
        follower = await accepted(client, "is anybody there?")
        assert (ghost["role"], follower["role"]) == ("leader", "follower")
        stream = await client.stream(follower["stream_url"])
        assert stream.end.name == "done"
        assert stream.text == answer_to("is anybody there?", 60)
        record = await client.until_status(ghost["id"], "completed")
        assert record["text"] == stream.text
    assert simulator.stats()["calls"] == 1
    await at_rest(gateway)


async def test_nothing_is_left_after_two_hundred_mixed_requests(simulate: Simulate, start: Start) -> None:
    """Row 23: identical and distinct, read, dropped and cancelled: no slot, no queue, no task remains."""
    simulator = simulate(ttft=0, tps=500, tokens=5)
    gateway = start(
        simulator,
        PREPARE_URL=hook_of(simulator),
        PREPARE_MODEL="planner",
        MAX_CONCURRENT_LEADERS=2,
        MAX_CONCURRENT_FOLLOWERS=3,
        MAX_CONCURRENT_LLM_STREAMS=4,
        MAX_CONCURRENT_LLM_CALLS=2,
        CACHE_WORKERS=1,
        ABANDON_GRACE_S=0,
    )
    chance = random.Random(23)
    questions = [f"mixed {chance.randrange(80)}" for _ in range(200)]
    fates = [chance.choice(["read", "cancel", "drop", "cancel while reading"]) for _ in questions]
    async with Client(gateway.url) as client:
        await client.call("GET", "/v1/models")  # what the start had to learn is learnt
        baseline = gateway.get("/pipeline")["totals"]["tasks"]
        endings = await together(map(_live, [client] * 200, questions, fates))
        await at_rest(gateway)
        assert gateway.get("/pipeline")["totals"]["tasks"] == baseline
    for fate, ending in zip(fates, endings, strict=True):
        assert fate != "read" or ending == "completed"
        assert ending in ("completed", "cancelled")
    _count_up(gateway, endings)
    seen = simulator.stats()
    assert (seen["in_flight"], seen["prepare"]["in_flight"]) == (0, 0)
    assert seen["peak"] <= 4 + 2
    assert seen["prepare"]["peak"] <= 2


async def _live(client: Client, question: str, fate: str) -> str:
    """One request's life; the status it ended with."""
    one = await accepted(client, question)
    if fate == "cancel":
        assert (await client.cancel(one["id"])).status in (200, 409)
    elif fate == "drop":
        async with client.listening(one["stream_url"]):
            pass
    else:
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(client.stream(one["stream_url"]))
            if fate == "cancel while reading":
                group.create_task(client.cancel(one["id"]))
        stream: Stream = reading.result()
        assert stream.end.name in ("done", "cancelled")
    record = await client.until_status(one["id"], "completed", "cancelled", "failed", "expired", within=60)
    return str(record["status"])


def _count_up(gateway: GatewayProcess, endings: list[str]) -> None:
    """The gateway's own totals say the same, and nobody was refused."""
    totals = gateway.get("/pipeline")["totals"]
    assert (totals["completed"], totals["cancelled"]) == (
        endings.count("completed"),
        endings.count("cancelled"),
    )
    assert (totals["failed"], totals["expired"], totals["shed"]) == (0, 0, 0)
