"""A real redis-server for a test, started the way the product starts its own."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from redis.asyncio import Redis

from cache.embedded import EmbeddedRedis
from cache.redis import RedisConnection
from cache.store import RedisAnswerStore
from cache.targets import RedisTarget
from runtime.supervisor import Supervisor


@asynccontextmanager
async def supervised() -> AsyncIterator[Supervisor]:
    """A supervisor that is closed at the end; an owned loop that ended by itself fails the test."""
    supervisor = Supervisor()
    try:
        yield supervisor
    finally:
        crashed = supervisor.crashed
        await supervisor.close()
    assert crashed is None, f"{crashed} ended by itself"


@asynccontextmanager
async def real_redis(supervisor: Supervisor, max_bytes: int = 64 << 20) -> AsyncIterator[EmbeddedRedis]:
    """A running server on a socket in a folder of its own; gone afterwards."""
    # Not pytest's tmp_path: its names are too long for a unix socket.
    with tempfile.TemporaryDirectory(prefix="rf-") as root:
        redis = EmbeddedRedis(Path(root), "test", max_bytes)
        try:
            assert await redis.start(supervisor), "the server did not become ready"
            yield redis
        finally:
            await redis.stop()


@asynccontextmanager
async def redis_store(socket: Path, max_entry_bytes: int = 1 << 20) -> AsyncIterator[RedisAnswerStore]:
    """The real store on that server, its connections closed afterwards."""
    connection = RedisConnection(RedisTarget.unix(socket))
    try:
        yield RedisAnswerStore(connection, max_entry_bytes)
    finally:
        await connection.close()


@asynccontextmanager
async def admin(socket: Path) -> AsyncIterator[Redis]:
    """A plain client, for what an operator would type."""
    client = Redis(unix_socket_path=str(socket), socket_timeout=None)
    try:
        yield client
    finally:
        await client.aclose()
