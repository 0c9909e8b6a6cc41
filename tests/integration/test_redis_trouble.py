"""Redis in trouble, for real: hung, killed, full, read-only, locked, or not Redis at all."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from tests.fakes.answers import answer, key
from tests.fakes.eventually import eventually
from tests.fakes.real_redis import admin
from tests.fakes.redis_bench import bench, hung

pytestmark = pytest.mark.anyio

# A look-up may take 100 ms; the rest is for a machine that is busy with other things.
PATIENCE_S = 0.1 + 0.4

pytestmark = pytest.mark.anyio


async def test_hung_redis_costs_one_tenth_of_a_second_once_and_hits_return() -> None:
    """The first look-up waits for its 100 ms, the others for nothing; after SIGCONT hits come back."""
    async with bench() as (made, redis):
        assert await made.lane.store(answer(1))
        async with hung(redis):
            assert await made.lookup_in_time(1) is None
            assert not made.lane.healthy
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
            await eventually(lambda: not made.lane.healthy)
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
            await eventually(lambda: not made.lane.healthy)

            await client.replicaof("NO", "ONE")
        await eventually(lambda: made.hits(1))


async def test_user_that_may_not_read_is_degraded_until_it_may() -> None:
    """Such a Redis answers PING and no look-up: readiness has to go by look-ups."""
    async with bench() as (made, _):
        assert await made.lane.store(answer(1))
        async with admin(made.socket) as client:
            await client.acl_setuser("default", commands=["-mget"])
            assert not await made.hits(1)
            await eventually(lambda: not made.lane.healthy)

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
            await eventually(lambda: not made.lane.healthy)
            assert not await made.hits(1)

            await client.config_set("requirepass", "")
        await eventually(lambda: made.hits(1))
