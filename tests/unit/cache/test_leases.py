"""LLM slots in Redis: never more holders than the capacity, the first in order first, nothing lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from admission.leasing import LeasesUnavailable, Waiting
from cache.leases import RedisLeases, reclaim
from tests.fakes.eventually import eventually
from tests.fakes.shared_redis import LONG_AGO, Proc, forever, processes
from tests.servers import RedisServer, standalone

pytestmark = pytest.mark.anyio
H, Q, W, X = (f"g:{{Lp}}:{part}" for part in "hqwx")


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with standalone() as server:
        yield server


class Pool:
    """A process's view of the pool: its leases, and the grants that were pushed to it."""

    def __init__(self, proc: Proc, capacity: int, name: str = "p") -> None:
        self.proc = proc
        self.leases = RedisLeases(proc.link, name, capacity, 15.0)
        self.pushed: list[int] = []
        self.leases.on_grant(self.pushed.append)

    async def ask(self, *tickets: int, order_ms: int = 0) -> list[int]:
        """-1 for each that is granted, else how many are before it."""
        waiting = [Waiting(ticket, order_ms) for ticket in tickets]
        return list((await self.leases.sync([], [], waiting, restart=False)).ahead)

    async def release(self, *tickets: int) -> None:
        await self.leases.sync(tickets, [], [], restart=False)


async def test_no_more_are_let_in_than_there_are_slots(server: RedisServer) -> None:
    """Over all processes together; the others are told their place among all."""
    async with processes(server) as procs:
        a, b = (Pool(proc, 2) for proc in procs)
        assert await a.ask(1) == [-1]
        assert await b.ask(1, 2, 3) == [-1, 0, 1]
        assert await a.ask(2, order_ms=5000) == [2]
        standing = await a.leases.sync([], [], [], restart=False)
        assert (standing.held, standing.waiting, standing.wait_ms) == (2, 3, 0)


async def test_what_is_given_back_goes_to_the_first_and_is_pushed(server: RedisServer) -> None:
    """The grant reaches the process that waits, without its asking."""
    async with processes(server) as procs:
        a, b = (Pool(proc, 1) for proc in procs)
        await a.ask(1)
        assert await b.ask(7, order_ms=100) == [0]
        assert await a.ask(2, order_ms=90_000) == [1]
        await a.release(1)
        await eventually(lambda: b.pushed == [7], within=5.0)
        assert await a.ask(2) == [0]


async def test_every_statement_may_be_made_twice(server: RedisServer) -> None:
    """Asked, granted, released again and again: a ticket is stated, not counted."""
    async with processes(server, 1) as (proc,):
        pool = Pool(proc, 1)
        assert await pool.ask(1) == await pool.ask(1) == [-1]
        assert await pool.ask(2) == await pool.ask(2) == [0]
        await pool.release(1)
        await pool.release(1)
        standing = await pool.leases.sync([], [], [], restart=False)
        assert (standing.held, standing.waiting) == (1, 0)


async def test_a_lost_push_is_made_good_by_asking_again(server: RedisServer) -> None:
    """A grant that nobody heard is told by the next beat."""
    async with processes(server) as procs:
        a, b = (Pool(proc, 1) for proc in procs)
        await a.ask(1)
        await b.ask(1)
        b.leases.on_grant(lambda ticket: None)
        await a.release(1)
        assert await b.ask(1) == [-1]


async def test_the_order_decides_and_a_repeated_one_does_not_move(server: RedisServer) -> None:
    """Said again, a place stays; only a moved one is moved."""
    async with processes(server, 1) as (proc,):
        pool = Pool(proc, 1)
        await pool.ask(0)
        for ticket, order in ((1, 3000), (2, 1000), (3, 2000)):
            await pool.ask(ticket, order_ms=order)
        assert await pool.ask(1, 2, 3) == [2, 0, 1]
        moved = await pool.leases.sync([], [], [Waiting(1, -5000, moved=True)], restart=False)
        assert list(moved.ahead) == [0]
        assert await pool.ask(2) == [1]


async def test_who_streams_counts_even_beyond_the_capacity(server: RedisServer) -> None:
    """After a loss of memory the truth is told again: it may be too much, and holds the others back."""
    async with processes(server) as procs:
        a, b = (Pool(proc, 2) for proc in procs)
        await a.ask(1, 2)
        with server.client as client:
            client.flushall()
        assert await b.ask(1) == [-1]
        standing = await a.leases.sync([], [1, 2], [], restart=False)
        assert standing.held == 3
        await b.release(1)
        assert await b.ask(2) == [0]


async def test_a_lapsed_holder_and_a_lapsed_waiter_make_room(server: RedisServer) -> None:
    """A lost machine's slots come back within the lease, its places in the queue too."""
    async with processes(server) as procs:
        a, b = (Pool(proc, 1) for proc in procs)
        await a.ask(1)
        await a.ask(2)
        assert await b.ask(1) == [1]
        with server.client as client:
            client.zadd(H, {f"{a.proc.name}/1": LONG_AGO})
            client.zadd(W, {f"{a.proc.name}/2": LONG_AGO})
        assert await b.ask(1) == [-1]


async def test_a_dead_process_gives_everything_back_at_once(server: RedisServer) -> None:
    """Row 99: its supervisor says so; the slots are granted on, its waiters are forgotten, others' stay."""
    async with processes(server, 3) as procs:
        a, b, c = (Pool(proc, 2) for proc in procs)
        await a.ask(1, 2, 3)
        await b.ask(1, order_ms=100)
        await c.ask(1, order_ms=200)
        assert await reclaim(c.proc.link, "p", 2, 15.0, a.proc.name) == 2
        assert await reclaim(c.proc.link, "p", 2, 15.0, a.proc.name) == 0
        await eventually(lambda: (b.pushed, c.pushed) == ([1], [1]), within=5.0)
        with server.client as client:
            assert set(client.zrange(H, 0, -1)) == {f"{b.proc.name}/1", f"{c.proc.name}/1"}
            assert client.zcard(Q) == client.zcard(W) == 0


async def test_a_pause_holds_back_all_and_is_never_shortened(server: RedisServer) -> None:
    """After a 429 to one process none is let in; it says for how long."""
    async with processes(server) as procs:
        a, b = (Pool(proc, 10) for proc in procs)
        await a.leases.pause(60.0)
        await a.leases.pause(1.0)
        standing = await b.leases.sync([], [], [Waiting(1, 0)], restart=False)
        assert list(standing.ahead) == [0]
        assert 50_000 < standing.wait_ms <= 60_000


async def test_a_restart_begins_with_a_tenth_of_the_capacity(server: RedisServer) -> None:
    """A herd after an outage earns a 429: of 40 slots four are given in the first tenth of a second."""
    async with processes(server, 1) as (proc,):
        pool = Pool(proc, 40)
        waiting = [Waiting(ticket, 0) for ticket in range(30)]
        standing = await pool.leases.sync([], [], waiting, restart=True)
        assert list(standing.ahead).count(-1) == 4
        assert (standing.held, standing.waiting) == (4, 26)
        assert 0 < standing.wait_ms <= 100


async def test_a_restart_lets_in_gradually_once(server: RedisServer) -> None:
    """When Redis is back every process says so; only the first begins the restart."""
    async with processes(server) as procs:
        a, b = (Pool(proc, 10) for proc in procs)
        await a.leases.sync([], [], [], restart=True)
        with server.client as client:
            first = client.hget(X, "cool")
            await b.leases.sync([], [], [], restart=True)
            assert first is not None
            assert client.hget(X, "cool") == first


async def test_pools_do_not_mix(server: RedisServer) -> None:
    """A grant of one pool is not heard by another of the same process."""
    async with processes(server, 1) as (proc,):
        streams, calls = Pool(proc, 1), Pool(proc, 1, "calls")
        await streams.ask(1)
        await streams.ask(2)
        assert await calls.ask(2) == [-1]
        await streams.release(1)
        await eventually(lambda: streams.pushed == [1, 2], within=5.0)
        assert calls.pushed == [2]


async def test_a_pool_leaves_nothing_for_ever(server: RedisServer) -> None:
    """Nobody left to renew it: all of it expires."""
    async with processes(server, 1) as (proc,):
        pool = Pool(proc, 1)
        await pool.ask(1, 2)
        await pool.leases.pause(5.0)
        await reclaim(proc.link, "p", 1, 15.0, "f" * 16)
        with server.client as client:
            assert set(client.keys("g:{Lp}:*")) == {H, Q, W, X}
            assert forever(client) == []


async def test_without_redis_there_is_no_answer(server: RedisServer) -> None:
    """One error for all that can be wrong, so that a stage goes on by itself."""
    async with processes(server, 1) as (proc,):
        pool = Pool(proc, 1)
        assert pool.leases.up
        with server.client as client:
            client.set(H, "not a set")
        with pytest.raises(LeasesUnavailable):
            await pool.ask(1)
        await proc.link.close()
        assert not pool.leases.up
        for call in (pool.ask(1), pool.leases.pause(1.0)):
            with pytest.raises(LeasesUnavailable):
                await call
