"""The one writer: bounded in room and in time, and deaf to the end of a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cache.breaker import Breaker
from cache.errors import StoreDown, StoreRefused
from cache.writer import Writer
from tests.cancellation import cancel_at_every_await
from tests.fakes.answer_store import MemoryAnswerStore
from tests.fakes.real_redis import supervised
from tests.virtual_time import virtual


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
