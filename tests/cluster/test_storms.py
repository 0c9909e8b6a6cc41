"""Random kills, restarts and disconnects under load: small here, large by `make test-storms`."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack

import pytest

from tests.cluster.conftest import Launcher
from tests.cluster.people import Person, Visit
from tests.system.client import Client
from tests.system.processes import GatewayProcess, SimulatorProcess
from tests.system.prompts import answer_to, prompt
from tests.system.scene import at_rest, calls_of, together

pytestmark = pytest.mark.anyio

TOKENS = 40


def sizes(small: int, large: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("size", [small, pytest.param(large, marks=pytest.mark.storm)])


@sizes(3, 20)
async def test_leaders_killed_at_random_moments(launch: Launcher, size: int) -> None:
    """kill -9 of the leader's process, followers on others: exact texts, nobody hangs, two calls at most."""
    chance, cluster = random.Random(20), launch(3)
    for number in range(size):
        question = prompt(f"Killed {number}?", ttft=0.2, tps=40, tokens=TOKENS)
        async with cluster.clients_of_all() as clients:
            leader = number % 3
            others = [client for at, client in enumerate(clients) if at != leader]
            role = (await clients[leader].submit(question)).json["role"]
            assert role == "leader"
            people = [Person(question, TOKENS, chance) for _ in range(4)]
            async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                asked = [group.create_task(person.ask(others)) for person in people]
                await asyncio.sleep(chance.uniform(0, 1.6))
                cluster.nodes[leader].kill()
            for task in asked:
                assert (task.result().text, task.result().end) == (answer_to(question, TOKENS), "done")
        assert calls_of(cluster.simulator, question) <= 2
        await asyncio.to_thread(launch.renew, cluster, leader)
    await cluster.until_rest()


@sizes(1, 10)
async def test_rolling_restarts_under_load(launch: Launcher, size: int) -> None:
    """Row 94: every gateway is drained and replaced, one by one, while people ask and come back: 0 wrong,
    0 skipped, 0 doubled tokens, 0 hung streams."""
    chance, cluster = random.Random(10), launch(3, DRAIN_TIMEOUT_S=3, MAX_CONCURRENT_LLM_STREAMS=100)
    visits: list[Visit] = []
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(node.process.url)) for node in cluster.nodes]
        over = asyncio.Event()

        async def crowd(number: int) -> None:
            turn = 0
            while not over.is_set():
                turn += 1
                question = prompt(f"Rolling {number % 8} {turn}?", ttft=0.1, tps=40, tokens=TOKENS)
                async with asyncio.timeout(60):
                    visits.append(await Person(question, TOKENS, chance).ask(clients))

        async with asyncio.TaskGroup() as group:
            for number in range(24):
                group.create_task(crowd(number))
            for _ in range(size):
                for at in range(3):
                    node = cluster.nodes[at]
                    node.process.signal(signal.SIGTERM)
                    assert await asyncio.to_thread(node.process.wait) == 0
                    await asyncio.to_thread(launch.renew, cluster, at)
                    clients[at] = await stack.enter_async_context(Client(cluster.nodes[at].process.url))
            over.set()
    assert len(visits) >= 24 * size
    assert {visit.end for visit in visits} == {"done"}
    assert {len(visit.text) > 0 for visit in visits} == {True}
    await cluster.until_rest()


@pytest.fixture
def four_workers() -> Iterator[tuple[GatewayProcess, SimulatorProcess]]:
    with ExitStack() as stack:
        simulator = SimulatorProcess(ttft=0.02, tps=0, tokens=12)
        stack.callback(simulator.kill)
        gateway = GatewayProcess(
            simulator.base_url, WEB_CONCURRENCY=4, ABANDON_GRACE_S=0.2, MAX_CONCURRENT_LLM_STREAMS=40
        )
        stack.callback(gateway.kill)
        yield gateway, simulator


@sizes(400, 10_000)
async def test_a_mixed_crowd_over_four_workers(
    four_workers: tuple[GatewayProcess, SimulatorProcess], size: int
) -> None:
    """Row 99, and I1 to I7 over four workers: shared and lone questions, both wires, 30 % disconnects,
    random cancels; then slots and Redis are at rest and the cap was never exceeded."""
    gateway, simulator = four_workers
    chance = random.Random(30)
    room = asyncio.Semaphore(64)

    async def visit(number: int) -> None:
        question = prompt(f"Crowd {chance.randrange(size // 4)}?", ttft=0.02)
        async with room, Client(gateway.url) as client, asyncio.timeout(60):
            await _behave(client, question, chance, number)

    await together(visit(number) for number in range(size))
    assert simulator.stats()["peak"] <= 40
    await at_rest(gateway)
    series = gateway.metrics()
    for stage in ("cache", "leaders", "followers", "llm_streams", "llm_calls"):
        admitted, released, reclaimed, in_use = (
            series[f'refrain_{name}{{stage="{stage}"}}']
            for name in (
                "stage_admitted_total",
                "stage_released_total",
                "permits_reclaimed_total",
                "stage_in_use",
            )
        )
        assert (admitted - released, reclaimed, in_use) == (0, 0, 0), stage
    assert [line for line in gateway.log if line["level"] in ("error", "critical")] == []


async def _behave(client: Client, question: str, chance: random.Random, number: int) -> None:
    expected = answer_to(question, 12)
    way = chance.random()
    if way < 0.3:  # drops its connection somewhere
        reply = await client.submit(question)
        async with client.listening(reply.json["stream_url"]) as (_, events, _):
            for _ in range(chance.randrange(4)):
                await anext(events)
    elif way < 0.4:
        id = (await client.submit(question)).json["id"]
        assert (await client.cancel(id)).status in (200, 409)
        assert (await client.record(id))["status"] in ("cancelled", "completed")
    elif way < 0.7:
        stream = await client.ask(question)
        assert (stream.text, stream.end.name, len(stream.terminals)) == (expected, "done", 1), stream.end
    else:
        reply = await client.complete(question)
        assert reply.json["choices"][0]["message"]["content"] == expected
