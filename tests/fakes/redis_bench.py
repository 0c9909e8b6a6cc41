"""A fast lane on a real Redis that a test can trouble."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from cache.answer import SealedAnswer
from cache.embedded import EmbeddedRedis
from cache.fastlane import FastLane
from cache.redis import RedisConnection
from cache.store import RedisAnswerStore
from cache.targets import RedisTarget
from runtime.supervisor import Supervisor
from tests.fakes.answers import key
from tests.fakes.real_redis import real_redis, supervised

pytestmark = pytest.mark.anyio

# A look-up may take 100 ms; the rest is for a machine that is busy with other things.
PATIENCE_S = 0.1 + 0.4


@dataclass
class Bench:
    """A lane without an in-process layer on a Redis, and the failed operations."""

    lane: FastLane
    socket: Path
    errors: list[str]

    async def hits(self, number: int) -> bool:
        return await self.lane.lookup(key(number)) is not None

    async def lookup_in_time(self, number: int) -> SealedAnswer | None:
        async with asyncio.timeout(PATIENCE_S):
            return await self.lane.lookup(key(number))


@asynccontextmanager
async def lane_on(supervisor: Supervisor, socket: Path) -> AsyncIterator[Bench]:
    errors: list[str] = []
    connection = RedisConnection(RedisTarget.unix(socket), errors.append)
    lane = FastLane(RedisAnswerStore(connection, 1 << 20), local_bytes=0, on_error=errors.append)
    lane.start(supervisor)
    try:
        yield Bench(lane, socket, errors)
    finally:
        lane.close()
        await supervisor.close()
        await connection.close()
    stats = lane.stats()
    assert (stats.busy, stats.waiting, stats.admitted) == (0, 0, stats.released)


@asynccontextmanager
async def bench() -> AsyncIterator[tuple[Bench, EmbeddedRedis]]:
    async with supervised() as server_supervisor, real_redis(server_supervisor) as redis:
        assert redis.socket_path is not None
        async with supervised() as supervisor, lane_on(supervisor, redis.socket_path) as made:
            yield made, redis


@asynccontextmanager
async def hung(redis: EmbeddedRedis) -> AsyncIterator[None]:
    assert redis.pid is not None
    os.kill(redis.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(redis.pid, signal.SIGCONT)
