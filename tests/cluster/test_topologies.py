"""Sentinel and Cluster, of real servers: the same answers, also when a primary is killed under streams."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from tests.cluster.conftest import Cluster
from tests.servers import RedisServer, cluster, sentinels
from tests.system.client import Client, Stream
from tests.system.prompts import answer_to, prompt
from tests.system.scene import calls_of, together

Launch = Callable[..., Cluster]
Topology = Callable[[], AbstractContextManager[tuple[str, list[RedisServer]]]]
pytestmark = pytest.mark.anyio

STREAMS = 40
TOKENS = 120


@contextmanager
def behind_sentinels() -> Iterator[tuple[str, list[RedisServer]]]:
    with sentinels() as (url, primary, replica):
        yield url, [primary, replica]


TOPOLOGIES = pytest.mark.parametrize("topology", [behind_sentinels, cluster], ids=["sentinel", "cluster"])


@pytest.mark.storm
@TOPOLOGIES
async def test_one_call_for_all_and_a_hit_afterwards(topology: Topology, launch: Launch) -> None:
    """Flights, relay, records and cache, over keys whose scripts each stay in one slot."""
    with topology() as (url, _):
        gateways = launch(2, url=url)
        questions = [prompt(f"Where {number}?", ttft=0.2, tps=200, tokens=20) for number in range(10)]
        async with gateways.clients_of_all() as (one, other):
            asked = await together(
                client.submit(question) for question in questions for client in (one, other, one)
            )
            streams = await together(
                (other if at % 2 else one).stream(reply.json["stream_url"]) for at, reply in enumerate(asked)
            )
            assert [stream.text for stream in streams] == [
                answer_to(question, 20) for question in questions for _ in range(3)
            ]
            assert sum(calls_of(gateways.simulator, question) for question in questions) == len(questions)
            for client in (one, other):
                again = await client.complete(questions[0])
                assert again.headers["cache-status"].startswith("refrain; hit")
        await gateways.until_rest()


@TOPOLOGIES
async def test_a_primary_killed_under_forty_streams(topology: Topology, launch: Launch) -> None:
    """Forty live answers, each led by one gateway and read through the other: forty exact texts."""
    with topology() as (url, servers):
        gateways = launch(2, url=url, MAX_CONCURRENT_LLM_STREAMS=60)
        questions = [
            prompt(f"Failover {number}?", ttft=0.1, tps=20, tokens=TOKENS) for number in range(STREAMS)
        ]
        async with gateways.clients_of_all() as (one, other):
            asked = await together(one.submit(question) for question in questions)
            # One by one: a gateway that hears nothing of Redis in time leads by itself.
            twins = [await other.submit(question) for question in questions]
            assert {reply.json["role"] for reply in twins} == {"follower"}
            async with asyncio.TaskGroup() as group:
                led = [group.create_task(_exact(one, reply.json["stream_url"])) for reply in asked]
                followed = [group.create_task(_exact(other, reply.json["stream_url"])) for reply in twins]
                await _all_live(gateways)
                servers[0].kill()
            for streams in (led, followed):
                for question, stream in zip(questions, streams, strict=True):
                    assert stream.result().text == answer_to(question, TOKENS)
                    assert stream.result().end.name == "done"
        await gateways.until_rest(within=30)


async def _exact(client: Client, url: str) -> Stream:
    async with asyncio.timeout(60):
        return await client.stream(url)


async def _all_live(gateways: Cluster) -> None:
    async with asyncio.timeout(20):
        while gateways.simulator.stats()["in_flight"] < STREAMS:
            await asyncio.sleep(0.05)
