"""The one writer: bounded in room and in time, and deaf to the end of a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from cache.breaker import Breaker
from cache.errors import StoreDown, StoreRefused
from cache.redis import RedisConnection
from cache.store import MAX_BATCH, Entry, RedisAnswerStore, redis_key
from cache.targets import RedisTarget
from cache.writer import BATCH_BYTES, Writer
from tests.cancellation import cancel_at_every_await
from tests.fakes.answer_store import MemoryAnswerStore
from tests.fakes.answers import key
from tests.fakes.real_redis import supervised
from tests.servers import RedisServer, standalone
from tests.virtual_time import virtual

LARGE = BATCH_BYTES // 4


class BatchStore(MemoryAnswerStore):
    """The store in memory, with a round trip for many; `trips` are the keys of each."""

    def __init__(self) -> None:
        super().__init__()
        self.trips: list[list[str]] = []
        self.refused: set[str] = set()

    async def put_many(self, entries: Sequence[Entry]) -> list[bool]:
        self.trips.append([entry.key for entry in entries])
        await self.ping()
        return [entry.key not in self.refused and await self.put(*entry) for entry in entries]


@asynccontextmanager
async def running(store: MemoryAnswerStore, room_bytes: int = 1000) -> AsyncIterator[tuple[Writer, Breaker]]:
    breaker = Breaker(store.ping)
    writer = Writer(store, breaker, room_bytes=room_bytes)
    async with supervised() as supervisor:
        loop = supervisor.own("writer", writer.run())
        yield writer, breaker
        assert not loop.done()


@virtual
async def test_write_is_confirmed_when_the_store_has_it() -> None:
    """True means that a look-up finds it."""
    store = MemoryAnswerStore()
    async with running(store) as (writer, _):
        assert await writer.put("a", b"1", 60)
        assert await store.get_many(["a"]) == [b"1"]


@virtual
async def test_cancelled_caller_does_not_lose_the_write() -> None:
    """Wherever the caller is cancelled after it has queued its write, the answer is stored."""
    store = MemoryAnswerStore()
    async with running(store) as (writer, _):

        async def kept(n: int) -> None:
            await asyncio.sleep(1)
            assert await store.get_many(["a"]) == [b"1"]
            await store.purge(None)

        assert await cancel_at_every_await(lambda: writer.put("a", b"1", 60), kept) >= 1


@virtual
async def test_hanging_store_costs_a_caller_one_second_at_most() -> None:
    """Also the one at the end of the queue."""
    store = MemoryAnswerStore()
    async with running(store) as (writer, _):
        store.gate.clear()
        began = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            writes = [group.create_task(writer.put(name, b"1", 60)) for name in "abc"]

        assert [write.result() for write in writes] == [False, False, False]
        assert asyncio.get_running_loop().time() - began == pytest.approx(1.0)


@virtual
async def test_full_queue_refuses_at_once() -> None:
    """Memory is bounded: one is being written, two wait, the fourth is refused."""
    store = MemoryAnswerStore()
    async with running(store, room_bytes=2) as (writer, _), asyncio.TaskGroup() as group:
        store.gate.clear()
        writes = []
        for name in "abc":
            writes.append(group.create_task(writer.put(name, b"1", 60)))
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        assert not await writer.put("d", b"1", 60)
        assert writer.overflowed == 1
        store.gate.set()
        for write in writes:
            assert await write


@virtual
async def test_a_burst_of_answers_is_written_however_many_they_are() -> None:
    """Room is counted in bytes: hundreds of small answers that end together are all kept."""
    store = MemoryAnswerStore()
    async with running(store) as (writer, _), asyncio.TaskGroup() as group:
        writes = [group.create_task(writer.put(str(number), b"1", 60)) for number in range(500)]
    assert all(write.result() for write in writes)


@virtual
async def test_store_in_trouble_opens_the_breaker_and_a_refusal_does_not() -> None:
    """Out of memory is an answer of a living server; silence is not."""
    store = MemoryAnswerStore()
    async with running(store) as (writer, breaker):
        store.trouble = StoreRefused("set: OutOfMemoryError")
        assert not await writer.put("a", b"1", 60)
        assert breaker.closed

        store.trouble = StoreDown("set: TimeoutError")
        assert not await writer.put("a", b"1", 60)
        assert not breaker.closed


@virtual
async def test_open_breaker_refuses_without_asking() -> None:
    """No write waits for a server that is known to be gone."""
    store = MemoryAnswerStore()
    async with running(store) as (writer, breaker):
        breaker.trip("get: TimeoutError")

        assert not await writer.put("a", b"1", 60)


@virtual
async def test_flush_gives_up_what_waits() -> None:
    """Callers are told, and nothing of it is written later."""
    store = MemoryAnswerStore()
    async with running(store) as (writer, _), asyncio.TaskGroup() as group:
        store.gate.clear()
        first = group.create_task(writer.put("a", b"1", 60))
        await asyncio.sleep(0.1)
        second = group.create_task(writer.put("b", b"1", 60))
        await asyncio.sleep(0.1)
        writer.flush()
        assert not await second

        store.gate.set()
        assert await first
        assert await store.get_many(["a", "b"]) == [b"1", None]


@virtual
async def test_all_that_waits_goes_in_one_round_trip() -> None:
    """With Redis 100 ms away, 129 answers take three round trips and not 129: the queue keeps up."""
    store = BatchStore()
    async with running(store) as (writer, _):
        store.gate.clear()
        async with asyncio.TaskGroup() as group:
            writes = [
                group.create_task(writer.put(str(number), b"1", 60)) for number in range(2 * MAX_BATCH + 1)
            ]
            await asyncio.sleep(0.1)
            store.gate.set()
    assert all(write.result() for write in writes)
    sent = [name for trip in store.trips for name in trip]
    assert sent == [str(number) for number in range(2 * MAX_BATCH + 1)], "in order of arrival, each once"
    assert [len(trip) for trip in store.trips] == [MAX_BATCH, MAX_BATCH, 1]


@virtual
async def test_a_round_trip_carries_about_four_mebibytes_at_most() -> None:
    """64 answers of 1 MiB would not come over in a second, and look like a hung Redis."""
    store = BatchStore()
    async with running(store, room_bytes=1 << 30) as (writer, _), asyncio.TaskGroup() as group:
        for name in "abcdef":
            group.create_task(writer.put(name, b"x" * LARGE, 60))
    assert store.trips == [list("abcd"), list("ef")]


@virtual
async def test_an_answer_larger_than_a_round_trip_goes_alone() -> None:
    """A limit that one answer exceeds must not hold it, and all behind it, back for ever."""
    store = BatchStore()
    store.max_entry_bytes = 2 * BATCH_BYTES
    async with running(store, room_bytes=1 << 30) as (writer, _), asyncio.TaskGroup() as group:
        writes = [
            group.create_task(writer.put(name, b"x" * size, 60))
            for name, size in (("a", 1), ("b", BATCH_BYTES + 1), ("c", 1))
        ]
    assert store.trips == [["a"], ["b"], ["c"]]
    assert all(write.result() for write in writes)


@virtual
async def test_each_caller_hears_of_its_own_write() -> None:
    """One that the store refuses among others that it takes."""
    store = BatchStore()
    store.refused = {"b"}
    async with running(store) as (writer, breaker):
        async with asyncio.TaskGroup() as group:
            writes = [group.create_task(writer.put(name, b"1", 60)) for name in "abc"]
        assert store.trips == [["a", "b", "c"]]
        assert [write.result() for write in writes] == [True, False, True]
        assert breaker.closed


@virtual
async def test_everybody_of_a_round_trip_is_told_when_it_fails() -> None:
    """Those behind it too, by the breaker; and the next is refused at once."""
    store = BatchStore()
    async with running(store) as (writer, breaker):
        store.trouble = StoreDown("set: ConnectionError")
        async with asyncio.timeout(1), asyncio.TaskGroup() as group:
            writes = [group.create_task(writer.put(name, b"1", 60)) for name in "abc"]
        assert [write.result() for write in writes] == [False, False, False]
        assert not breaker.closed


@virtual
async def test_a_round_trip_that_hangs_is_given_up_after_a_second_with_all_behind_it() -> None:
    """However many round trips would have followed."""
    store = BatchStore()
    async with running(store) as (writer, _):
        store.gate.clear()
        began = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            writes = [group.create_task(writer.put(str(number), b"1", 60)) for number in range(3 * MAX_BATCH)]
        assert not any(write.result() for write in writes)
        assert asyncio.get_running_loop().time() - began == pytest.approx(1.0)


@virtual
async def test_a_writer_that_is_ended_tells_whoever_it_writes_for() -> None:
    """At the end of the process nobody waits for a write that no longer happens."""
    store = BatchStore()
    writer = Writer(store, Breaker(store.ping))
    store.gate.clear()
    async with asyncio.TaskGroup() as group:
        loop = group.create_task(writer.run())
        writes = [group.create_task(writer.put(name, b"1", 60)) for name in "ab"]
        await asyncio.sleep(0.1)
        loop.cancel()
    assert [write.result() for write in writes] == [False, False]


@asynccontextmanager
async def on(server: RedisServer, **user: str) -> AsyncIterator[tuple[RedisAnswerStore, list[str]]]:
    """The store on that server, and the operations that it counts as failed."""
    login = "".join(f"{name}:{password}@" for name, password in user.items())
    failed: list[str] = []
    connection = RedisConnection(RedisTarget(f"redis://{login}127.0.0.1:{server.port}"), failed.append)
    try:
        yield RedisAnswerStore(connection, max_entry_bytes=1000), failed
    finally:
        await connection.close()


@pytest.mark.anyio
async def test_many_are_stored_as_one_is() -> None:
    """On a real server: values, expiry of each, the later of one key; not what is too large or over."""
    with standalone() as server, server.client as admin:
        async with on(server) as (store, failed):
            entries = [
                Entry(key(1), b"1", 50_000),
                Entry(key(2), b"x" * 1001, 50_000),
                Entry(key(3), b"3", 0),
            ]
            entries += [Entry(key(4), b"old", 50_000), Entry(key(4), b"new", 90_000)]
            assert await store.put_many(entries) == [True, False, False, True, True]
            found = await store.get_many([key(number) for number in (1, 2, 3, 4)])
            assert found == [b"1", None, None, b"new"]
            ttls = [admin.ttl(redis_key(key(number))) for number in (1, 4)]
            assert 0 < ttls[0] <= 50_000 < ttls[1] <= 90_000
            assert await store.put_many([]) == []
            with pytest.raises(ValueError, match="64"):
                await store.put_many([Entry(key(0), b"", 1)] * (MAX_BATCH + 1))
            assert failed == []


@pytest.mark.anyio
async def test_what_a_server_refuses_is_refused_alone_and_counted_once() -> None:
    """A user without the right to one of the keys; StoreRefused only when nothing was taken."""
    with standalone() as server, server.client as admin:
        admin.execute_command("ACL", "SETUSER", "some", "on", ">password", "~g:{b01}:*", "+@all")
        async with on(server, some="password") as (store, failed):
            mixed = [Entry(key(number), b"1", 50) for number in (1, 2, 1, 3)]
            assert await store.put_many(mixed) == [True, False, True, False]
            assert failed == ["set"]
            with pytest.raises(StoreRefused):
                await store.put_many(mixed[1:2])
