"""The cache when Redis is away, as each worker sees it: alone, or one of three."""

from __future__ import annotations

import signal

import pytest

from tests.fakes.eventually import eventually
from tests.fakes.real_redis import real_redis, supervised
from tests.system.client import Client
from tests.system.crew import crew, pinned
from tests.system.processes import workers
from tests.system.scene import Simulate, Start, over

pytestmark = pytest.mark.anyio


async def test_without_redis_everything_but_the_cache_works(simulate: Simulate, start: Start) -> None:
    """Row 14: with Redis stopped submits complete by the normal path; readiness says degraded, not dead."""
    simulator = simulate(ttft=0, tps=0)
    async with supervised() as supervisor, real_redis(supervisor) as redis:
        gateway = start(simulator, LOCAL_CACHE_BYTES=0, REDIS_URL=f"unix://{redis.socket_path}")
        async with pinned(gateway, list(crew(gateway).values())) as clients:
            first = await clients[0].ask("row 14")
            await over(gateway)
            for client in clients:
                assert (await client.ask("row 14")).end.json["cache"] == "hit"
                assert (await client.call("GET", "/readyz")).json["status"] == "ok"
            await redis.stop()
            for client in clients:
                await _works_without_redis(client, first.text)
    assert simulator.stats()["calls"] == 1 + 2 * workers()
    gateway.signal(signal.SIGTERM)
    assert gateway.wait() == 0


async def _works_without_redis(client: Client, text: str) -> None:
    again = await client.ask("row 14")
    assert (again.end.json["cache"], again.text) == ("miss", text)

    async def noticed() -> bool:
        return bool((await client.call("GET", "/readyz")).json["components"]["redis"] != "ok")

    await eventually(noticed)
    ready = await client.call("GET", "/readyz")
    assert (ready.status, ready.json["status"]) == (200, "degraded")
    assert ready.json["components"]["upstream"] == "ok"
    assert (await client.call("GET", "/healthz")).status == 200
    assert (await client.ask("row 14")).text == text
