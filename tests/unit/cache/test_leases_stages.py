"""Three stages over three lines to one real Redis: the cap holds with pushes lost, nothing is left."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from admission.shared import SharedStage
from cache.leases import RedisLeases, reclaim
from runtime.supervisor import Supervisor
from tests.fakes.eventually import eventually
from tests.fakes.invariants import assert_free
from tests.fakes.real_redis import supervised
from tests.fakes.shared_redis import Proc, processes
from tests.servers import RedisServer, standalone

pytestmark = pytest.mark.anyio
LEASE_S = 8.0
CAPACITY = 4
H, Q, W = (f"g:{{Ls}}:{part}" for part in "hqw")


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with standalone() as server:
        yield server


@dataclass
class Guest:
    order: float = 0.0


def stage_of(proc: Proc, supervisor: Supervisor, luck: random.Random, loss: float) -> SharedStage:
    """`loss` of the pushes to it never arrive."""
    leases = RedisLeases(proc.link, "s", CAPACITY, LEASE_S)
    stage = SharedStage("s", CAPACITY, leases, lease_s=LEASE_S, processes=lambda: 3, supervisor=supervisor)
    leases.on_grant(lambda ticket: None if luck.random() < loss else stage._pushed(ticket))
    supervisor.own(f"limits:{proc.name}", stage.run())
    return stage


async def test_three_processes_never_exceed_the_cap(server: RedisServer) -> None:
    """Rows 89 and 99: 90 visits, one push in ten lost: four inside at most and at some time, all served."""
    luck = random.Random(3)
    inside: set[int] = set()
    most = visits = 0
    async with processes(server, 3) as procs, supervised() as supervisor:
        stages = [stage_of(proc, supervisor, luck, 0.1) for proc in procs]

        async def visit(number: int) -> None:
            nonlocal most, visits
            async with stages[number % 3].admit(Guest(number)):
                inside.add(number)
                most, visits = max(most, len(inside)), visits + 1
                await procs[number % 3].link.do("PING")
                inside.discard(number)

        async with asyncio.timeout(30.0), asyncio.TaskGroup() as group:
            for number in range(90):
                group.create_task(visit(number))
        assert (most, visits) == (CAPACITY, 90)
        for stage in stages:
            assert_free(stage)
        with server.client as client:
            await eventually(lambda: client.exists(H, Q, W) == 0, within=10.0)


async def test_a_dead_processs_slots_serve_the_living(server: RedisServer) -> None:
    """Row 99: its loop has ended with everything held; its supervisor reclaims, and the others go on."""
    luck = random.Random(1)
    async with processes(server, 2) as (a, b), supervised() as supervisor:
        mine = stage_of(b, supervisor, luck, 0.0)
        dying = Supervisor()
        theirs = stage_of(a, dying, luck, 0.0)
        held = [theirs.admit(Guest()) for _ in range(CAPACITY)]
        for one in held:
            await one.__aenter__()
        waiting = [mine.admit(Guest(1.0)) for _ in range(2)]
        with server.client as client:
            await eventually(lambda: client.zcard(Q) == 2, within=10.0)
            await dying.close()
            assert await reclaim(b.link, "s", CAPACITY, LEASE_S, a.name) == CAPACITY
            async with asyncio.timeout(5.0):
                for one in waiting:
                    await one.__aenter__()
            for one in waiting:
                one.withdraw()
            await eventually(lambda: client.exists(H, Q, W) == 0, within=10.0)
        assert_free(mine)
