"""Redis in trouble, for real: hung, killed, full, read-only, locked, or not Redis at all."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from cache.answer import SealedAnswer
from cache.codec import encode
from cache.embedded import EmbeddedRedis
from cache.fastlane import FastLane
from cache.redis import RedisConnection, RedisTarget
from cache.store import RedisAnswerStore
from runtime.supervisor import Supervisor
from tests.fakes.answers import answer, key
from tests.fakes.eventually import eventually
from tests.fakes.nonsense_redis import nonsense_redis
from tests.fakes.real_redis import admin, real_redis, supervised

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


async def test_hung_redis_costs_one_tenth_of_a_second_once_and_hits_return() -> None:
    """The first look-up waits for its 100 ms, the others for nothing; after SIGCONT hits come back."""
    async with bench() as (made, redis):
        assert await made.lane.store(answer(1))
        async with hung(redis):
            assert await made.lookup_in_time(1) is None
            assert made.lane.degraded
            asked = made.lane.stats().admitted
            for _ in range(1000):
                assert await made.lane.lookup(key(1)) is None
            assert not await made.lane.store(answer(2))
            # Whether they waited is told without a clock: not one of them was taken by a worker.
            assert made.lane.stats().admitted == asked

        await eventually(lambda: made.hits(1))
        assert made.lane.healthy


async def test_herd_on_a_hung_redis_is_freed_together() -> None:
    """Of 500 look-ups at once nobody waits for the timeout of somebody else."""
    async with bench() as (made, redis):
        async with hung(redis), asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            asked = [group.create_task(made.lane.lookup(key(number))) for number in range(500)]

        assert all(task.result() is None for task in asked)
        await eventually(lambda: made.lane.healthy)


async def test_idle_gateway_notices_a_hung_redis() -> None:
    """Readiness is right without a single look-up."""
    async with bench() as (made, redis):
        async with hung(redis):
            await eventually(lambda: made.lane.degraded)
        await eventually(lambda: made.lane.healthy)


async def test_killed_redis_costs_misses_until_it_is_back() -> None:
    """The server is respawned empty; what is stored from then on is found, without a restart of ours."""
    async with bench() as (made, redis):
        assert await made.lane.store(answer(1))
        killed = redis.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        await eventually(lambda: redis.pid not in (None, killed))
        await eventually(lambda: made.lane.store(answer(2)))

        assert await made.hits(2)
        assert not await made.hits(1)


async def test_full_redis_still_serves_hits() -> None:
    """Out of memory refuses the write, counts as an error of `set`, and opens nothing."""
    async with bench() as (made, _):
        assert await made.lane.store(answer(1))
        async with admin(made.socket) as client:
            await client.config_set("maxmemory-policy", "noeviction")
            await client.config_set("maxmemory", "1")

            assert not await made.lane.store(answer(2))
            assert made.errors == ["set"]
            assert await made.hits(1)
            assert made.lane.healthy

            await client.config_set("maxmemory", "0")
        assert await made.lane.store(answer(2))


async def test_read_only_replica_still_serves_hits() -> None:
    """After a failover the old master may refuse writes for a while."""
    async with bench() as (made, _):
        assert await made.lane.store(answer(1))
        async with admin(made.socket) as client:
            await client.replicaof("127.0.0.1", 1)

            assert not await made.lane.store(answer(2))
            assert await made.hits(1)
            assert made.lane.healthy


async def test_replica_without_its_master_is_degraded_until_it_serves_reads() -> None:
    """MASTERDOWN is an answer, but there is no cache behind it."""
    async with bench() as (made, _):
        assert await made.lane.store(answer(1))
        async with admin(made.socket) as client:
            await client.config_set("replica-serve-stale-data", "no")
            await client.replicaof("127.0.0.1", 1)
            assert not await made.hits(1)
            await eventually(lambda: made.lane.degraded)

            await client.replicaof("NO", "ONE")
        await eventually(lambda: made.hits(1))


async def test_user_that_may_not_read_is_degraded_until_it_may() -> None:
    """Such a Redis answers PING and no look-up: readiness has to go by look-ups."""
    async with bench() as (made, _):
        assert await made.lane.store(answer(1))
        async with admin(made.socket) as client:
            await client.acl_setuser("default", commands=["-mget"])
            assert not await made.hits(1)
            await eventually(lambda: made.lane.degraded)

            await client.acl_setuser("default", commands=["+mget"])
        await eventually(lambda: made.hits(1))


async def test_redis_that_wants_a_password_is_degraded() -> None:
    """NOAUTH is an answer, but there is no cache behind it; it heals when the password goes."""
    async with bench() as (made, _):
        assert await made.lane.store(answer(1))
        async with admin(made.socket) as client:
            await client.config_set("requirepass", "secret")
            await client.auth("secret")
            await client.client_kill_filter(skipme=True, _type="normal")
            await eventually(lambda: made.lane.degraded)
            assert not await made.hits(1)

            await client.config_set("requirepass", "")
        await eventually(lambda: made.hits(1))


async def test_cut_connections_cost_a_miss_and_no_more() -> None:
    """CLIENT KILL: the next look-up may miss, and hits are back with the next probe."""
    async with bench() as (made, _):
        assert await made.lane.store(answer(1))
        async with admin(made.socket) as client:
            for _ in range(5):
                await client.client_kill_filter(skipme=True, _type="normal")
                await made.lookup_in_time(1)
                await eventually(lambda: made.hits(1))


@pytest.mark.parametrize(
    "reply",
    [
        b"\xff\xfe\x00garbage\r\n" * 10,
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"+OK\r\n",
        b":42\r\n",
        b"*1\r\n:7\r\n",
        b"*2\r\n$-1\r\n$-1\r\n",
        b"*1\r\n*1\r\n$1\r\nx\r\n",
        b"$5\r\nhello\r\n",
        b"$99999999999999999999\r\n",
        b"-WHAT is this\r\n",
        b"*1\r\n-ERR inside\r\n",
    ],
)
async def test_server_that_talks_nonsense_is_a_miss_and_degraded(reply: bytes) -> None:
    """Whatever comes over the wire, a look-up ends in time and no loop dies."""
    with tempfile.TemporaryDirectory(prefix="rf-") as folder:
        socket = Path(folder) / "s"
        async with (
            nonsense_redis(socket, reply),
            supervised() as supervisor,
            lane_on(supervisor, socket) as made,
        ):
            for number in range(5):
                assert await made.lookup_in_time(number) is None
                assert not await made.lane.store(answer(number))
            await eventually(lambda: made.lane.degraded)


async def test_server_that_hangs_up_is_a_miss() -> None:
    """Half a reply and the end of the connection."""
    with tempfile.TemporaryDirectory(prefix="rf-") as folder:
        socket = Path(folder) / "s"
        async with (
            nonsense_redis(socket, b"*1\r\n$100\r\nhalf", then_close=True),
            supervised() as supervisor,
            lane_on(supervisor, socket) as made,
        ):
            assert await made.lookup_in_time(1) is None
            await eventually(lambda: made.lane.degraded)


async def test_crossed_reply_is_never_served() -> None:
    """A value that is perfect but another key's is a miss."""
    crossed = encode(answer(2))
    reply = b"*1\r\n$%d\r\n%s\r\n" % (len(crossed), crossed)
    with tempfile.TemporaryDirectory(prefix="rf-") as folder:
        socket = Path(folder) / "s"
        async with (
            nonsense_redis(socket, reply),
            supervised() as supervisor,
            lane_on(supervisor, socket) as made,
        ):
            assert await made.lookup_in_time(1) is None


async def test_nobody_there_is_a_miss_at_once() -> None:
    """No socket at all, from the start: degraded, and no look-up waits."""
    with tempfile.TemporaryDirectory(prefix="rf-") as folder:
        async with supervised() as supervisor, lane_on(supervisor, Path(folder) / "s") as made:
            assert await made.lookup_in_time(1) is None
            await eventually(lambda: made.lane.degraded)


async def test_cancel_storm_over_a_real_connection_loses_no_reply() -> None:
    """2,000 look-ups, half of them cancelled: every other caller gets its own answer, none a neighbour's."""
    chance = random.Random(11)
    async with bench() as (made, _):
        for number in range(40):
            assert await made.lane.store(answer(number))
        asked: list[tuple[int, asyncio.Task[SealedAnswer | None]]] = []
        async with asyncio.TaskGroup() as group:
            for number in (chance.randrange(40) for _ in range(2000)):
                asked.append((number, group.create_task(made.lane.lookup(key(number)))))
                if chance.random() < 0.5:
                    asyncio.get_running_loop().call_later(chance.uniform(0, 0.002), asked[-1][1].cancel)
                if chance.random() < 0.2:
                    await asyncio.sleep(0)

        assert any(task.cancelled() for _, task in asked)
        assert all(task.cancelled() or _is_of(number, task.result()) for number, task in asked)
        assert all([await made.hits(number) for number in range(40)])


def _is_of(number: int, found: SealedAnswer | None) -> bool:
    return found is not None and (found.key, found.epoch) == (key(number), answer(number).epoch)
