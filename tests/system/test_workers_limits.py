"""Limits that each worker has for itself: three workers keep one each, and the model sees the sum."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tests.fakes.eventually import eventually
from tests.system.client import Client
from tests.system.crew import crew, pinned
from tests.system.places import placed
from tests.system.processes import GatewayProcess, SimulatorProcess
from tests.system.prompts import answer_to, prompt
from tests.system.scene import Simulate, Start, accepted, at_rest, filled, held, hook_of, together

pytestmark = pytest.mark.anyio

TOKENS = 6
WORKERS = 3


@pytest.fixture
def simulator(simulate: Simulate) -> SimulatorProcess:
    return simulate(ttft=0, tps=0, tokens=TOKENS)


def of_each(gateway: GatewayProcess, stage: str) -> list[tuple[int, int]]:
    """In use and waiting, worker by worker."""
    seen = [one["stages"] for one in gateway.get("/pipeline")["workers"]]
    return [(one["in_use"], one["waiting"]) for stages in seen for one in stages if one["name"] == stage]


async def refused(clients: Sequence[Client], question: str) -> None:
    """Each of these workers has no room, on both wires."""
    for number, client in enumerate(clients):
        reply = await client.submit(f"{question} {number}")
        assert (reply.status, reply.error["code"]) == (429, "queue_full")
        assert int(reply.headers["retry-after"]) >= 1
        reply = await client.complete(f"{question} {number} there")
        assert (reply.status, reply.headers["x-refrain-reason"]) == (429, "queue_full")


async def test_each_worker_prepares_up_to_its_own_limit(simulator: SimulatorProcess, start: Start) -> None:
    """Row 15: with two leaders each the hook sees six at once, neither less nor more, and no worker three."""
    gateway = start(simulator, workers=WORKERS, MAX_CONCURRENT_LEADERS=2, PREPARE_URL=hook_of(simulator))
    workers = list(crew(gateway).values())
    async with pinned(gateway, workers) as doors, Client(gateway.url) as client:
        chats = [
            await accepted(door, prompt(f"{number} of {at}", prepare_hold="door"))
            for number in range(4)
            for at, door in enumerate(doors)
        ]
        await held(simulator, "door", 2 * WORKERS)
        await eventually(lambda: of_each(gateway, "leaders") == [(2, 2)] * WORKERS)
        assert gateway.stage("leaders")["capacity"] == 2 * WORKERS
        simulator.release("door")
        await together(client.until_status(chat["id"], "ready") for chat in chats)
        prepared = simulator.stats()["prepare"]
        assert (prepared["calls"], prepared["completed"], prepared["peak"]) == (12, 12, 6)
        await filled(gateway, "leaders", 0, 0)


async def test_a_flood_over_all_queues_is_refused_and_leaves_nothing(
    simulator: SimulatorProcess, start: Start
) -> None:
    """Row 50: each worker lets in what its own queue holds and refuses the rest, but never a follower."""
    gateway = start(
        simulator,
        workers=WORKERS,
        MAX_CONCURRENT_LEADERS=1,
        QUEUE_SIZE=2,
        PREPARE_URL=hook_of(simulator),
    )
    async with pinned(gateway, list(crew(gateway).values())) as doors, Client(gateway.url) as client:
        chats = [
            await accepted(door, prompt(f"{number} of {at}", prepare_hold="full"))
            for at, door in enumerate(doors)
            for number in range(3)
        ]
        await held(simulator, "full", WORKERS)
        assert of_each(gateway, "leaders") == [(1, 2)] * WORKERS
        await refused(doors, "Too many")
        # What runs elsewhere costs a full worker no place.
        twin = await accepted(doors[0], prompt("2 of 2", prepare_hold="full"))
        assert twin["role"] == "follower"
        assert of_each(gateway, "leaders") == [(1, 2)] * WORKERS
        simulator.release("full")
        streams = await together(client.stream(chat["stream_url"]) for chat in (*chats, twin))
        assert {stream.end.name for stream in streams} == {"done"}
        await at_rest(gateway)
    assert simulator.stats()["prepare"]["calls"] == simulator.stats()["calls"] == 3 * WORKERS
    assert gateway.get("/pipeline")["totals"]["refused"] == 2 * WORKERS


async def test_prepared_answers_are_bounded_by_each_worker(simulator: SimulatorProcess, start: Start) -> None:
    """Row 50: all wait for one shared slot, and a worker refuses at its own MAX_PENDING, not at the sum."""
    gateway = start(simulator, workers=WORKERS, MAX_CONCURRENT_LLM_STREAMS=1, MAX_PENDING=1)
    async with (
        pinned(gateway, list(crew(gateway).values())) as doors,
        Client(gateway.url) as client,
        asyncio.TaskGroup() as group,
    ):
        live = await accepted(doors[0], prompt("Live", hold="pending"))
        reading = [group.create_task(client.stream(live["stream_url"]))]
        await held(simulator, "pending")
        for at, door in enumerate(doors):
            chat = await accepted(door, f"Pending {at}")
            reading.append(group.create_task(client.stream(chat["stream_url"])))
            await refused([door], "One too many")
        await filled(gateway, "llm_streams", 1, WORKERS)
        assert sum(waiting for _, waiting in of_each(gateway, "llm_streams")) == WORKERS
        simulator.release("pending")
    assert {stream.result().end.name for stream in reading} == {"done"}
    assert (simulator.stats()["calls"], simulator.stats()["peak"]) == (1 + WORKERS, 1)
    await at_rest(gateway)


async def test_places_are_those_of_the_workers_own_queue(simulator: SimulatorProcess, start: Start) -> None:
    """Rows 26, 62: each queue counts from 1 and is served in its order; any worker tells the place."""
    gateway = start(simulator, workers=WORKERS, MAX_CONCURRENT_LEADERS=1, PREPARE_URL=hook_of(simulator))
    async with pinned(gateway, list(crew(gateway).values())) as doors, Client(gateway.url) as client:
        for at, door in enumerate(doors):
            await accepted(door, prompt(f"Running {at}", prepare_hold=f"turn-{at}"))
        await eventually(lambda: of_each(gateway, "leaders") == [(1, 0)] * WORKERS)
        queued = [
            [await accepted(door, prompt(f"{at} {n}", prepare_hold=f"turn-{at}-{n}")) for n in (1, 2)]
            for at, door in enumerate(doors)
        ]
        assert [[one["queue_position"] for one in mine] for mine in queued] == [[1, 2]] * WORKERS
        for mine in queued:
            await placed(client, mine, [1, 2])
        # Only the second worker goes on; the places of the others stay.
        simulator.release("turn-1")
        await held(simulator, "turn-1-1")
        await placed(client, queued[1], [None, 1])
        assert of_each(gateway, "leaders") == [(1, 2), (1, 1), (1, 2)]
        for mine in (queued[0], queued[2]):
            await placed(client, mine, [1, 2])
        for name in ("turn-1-1", "turn-0", "turn-2", *(f"turn-{at}-{n}" for at in (0, 2) for n in (1, 2))):
            simulator.release(name)
        simulator.release("turn-1-2")
        await together(client.until_status(one["id"], "ready") for mine in queued for one in mine)
        assert simulator.stats()["prepare"]["peak"] == WORKERS


async def test_nobody_is_sent_back_by_a_worker_that_is_asked_late(
    simulator: SimulatorProcess, start: Start
) -> None:
    """Row 62: a place that was told only falls, also through a worker that has told none before."""
    gateway = start(simulator, workers=WORKERS, MAX_CONCURRENT_LEADERS=1, PREPARE_URL=hook_of(simulator))
    async with pinned(gateway, list(crew(gateway).values())) as (door, asked, late):
        await accepted(door, prompt("Running", prepare_hold="place"))
        await filled(gateway, "leaders", 1, 0)
        chat = await accepted(door, "Batch", priority="batch")
        await placed(asked, [chat], [1])
        urgent = await accepted(door, "Interactive")
        assert urgent["queue_position"] == 1
        for client in (door, asked, late):
            await placed(client, [chat], [1])
        simulator.release("place")
        for one in (chat, urgent):
            await late.until_status(one["id"], "ready")


async def test_the_sum_of_all_workers_stays_within_the_shared_limits(
    simulator: SimulatorProcess, start: Start
) -> None:
    """Rows 17, 92: what one worker may do alone, all together may do once: the model's peak is the limit."""
    gateway = start(simulator, workers=WORKERS, MAX_CONCURRENT_LLM_STREAMS=4)
    async with pinned(gateway, list(crew(gateway).values())) as doors, Client(gateway.url) as client:
        questions = [prompt(f"Question {number}", hold="gate") for number in range(18)]
        chats = [await accepted(doors[n % WORKERS], question) for n, question in enumerate(questions)]
        async with asyncio.TaskGroup() as group:
            reading = [group.create_task(client.stream(chat["stream_url"])) for chat in chats]
            await held(simulator, "gate", 4)
            await filled(gateway, "llm_streams", 4, 14)
            shared = of_each(gateway, "llm_streams")
            assert (sum(used for used, _ in shared), sum(waiting for _, waiting in shared)) == (4, 14)
            simulator.release("gate")
    assert [one.result().text for one in reading] == [answer_to(question, TOKENS) for question in questions]
    assert (simulator.stats()["calls"], simulator.stats()["peak"]) == (18, 4)
    await at_rest(gateway)


async def test_without_redis_each_worker_serves_whom_it_admitted(
    simulator: SimulatorProcess, start: Start
) -> None:
    """Row 14: each shares what runs in itself; of another's request it says 503, not 404."""
    gateway = start(simulator, workers=2, REDIS_URL="redis://127.0.0.1:1/0")
    async with pinned(gateway, list(crew(gateway).values())) as doors, asyncio.TaskGroup() as group:
        question = prompt("Alone", hold="alone")
        chats = [[await accepted(door, question) for _ in range(2)] for door in doors]
        assert [[chat["role"] for chat in mine] for mine in chats] == [["leader", "follower"]] * 2
        for door, (foreign, _) in zip(doors, reversed(chats), strict=True):
            for method, path in (("GET", "/stream"), ("GET", ""), ("POST", "/cancel")):
                reply = await door.call(method, f"/chat/{foreign['id']}{path}")
                assert (reply.status, reply.error["code"]) == (503, "state_unavailable")
        reading = [
            group.create_task(door.stream(mine[0]["stream_url"]))
            for door, mine in zip(doors, chats, strict=True)
        ]
        await held(simulator, "alone", 2)
        simulator.release("alone")
    assert [one.result().text for one in reading] == [answer_to(question, TOKENS)] * 2
    await at_rest(gateway)
