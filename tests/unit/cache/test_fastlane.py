"""The fast lane: batching, coalescing, deadlines, trouble, cancellation."""

from __future__ import annotations

import asyncio

import pytest

from tests.fakes.answer_store import MemoryAnswerStore
from tests.fakes.answers import answer, key
from tests.fakes.lane import filled, running
from tests.virtual_time import virtual


@virtual
async def test_stored_answer_is_found_as_it_was() -> None:
    """Through the codec and the store and back."""
    async with running(MemoryAnswerStore()) as lane:
        sealed = answer(1)
        assert await lane.store(sealed)
        assert await lane.lookup(key(1)) == sealed
        assert await lane.lookup(key(2)) is None


@virtual
async def test_stored_answer_is_visible_before_the_store_has_it() -> None:
    """The in-process layer is filled before the first await: a twin finds the answer meanwhile."""
    store = MemoryAnswerStore()
    async with running(store, local_bytes=1 << 20) as lane, asyncio.TaskGroup() as group:
        store.gate.clear()
        storing = group.create_task(lane.store(answer(1)))
        await asyncio.sleep(0)
        assert lane.peek(key(1)) is not None
        assert not storing.done()
        store.gate.set()


@virtual
async def test_hit_from_the_store_fills_the_in_process_layer() -> None:
    """The second look-up asks nobody."""
    store = MemoryAnswerStore()
    async with running(store, local_bytes=1 << 20) as lane:
        await filled(store, 1)
        assert await lane.lookup(key(1)) is not None
        assert await lane.lookup(key(1)) is not None

        assert len(store.batches) == 1
        stats = lane.stats()
        assert (stats.hits_redis, stats.hits_local, stats.misses) == (1, 1, 0)


@virtual
async def test_what_waits_is_asked_in_one_round_trip() -> None:
    """While the only worker is out, everybody else's questions gather into one batch of at most 64."""
    store = MemoryAnswerStore()
    async with running(store, workers=1) as lane, asyncio.TaskGroup() as group:
        await filled(store, *range(100))
        store.gate.clear()
        group.create_task(lane.lookup(key(0)))
        await asyncio.sleep(0.001)
        asked = [group.create_task(lane.lookup(key(number))) for number in range(1, 100)]
        await asyncio.sleep(0.001)
        store.gate.set()
        for task in asked:
            assert await task is not None

        assert [len(batch) for batch in store.batches] == [1, 64, 35]


@virtual
async def test_large_answers_are_asked_for_a_few_at_a_time() -> None:
    """64 answers of 1 MiB do not come over in 100 ms, and would be taken for a hung Redis."""
    store = MemoryAnswerStore()
    async with running(store) as lane:
        for number in range(20):
            assert await lane.store(answer(number, text=b"x" * 450_000))
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(lane.lookup(key(number))) for number in range(20)]

        assert all(task.result() is not None for task in asked)
        assert max(map(len, store.batches)) * 900_000 <= 4 << 20


@virtual
async def test_identical_look_ups_at_once_are_one_question() -> None:
    """A hundred callers of one key cost one key in one round trip, and each gets the answer."""
    store = MemoryAnswerStore()
    async with running(store, queue_size=1) as lane:
        await filled(store, 1)
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(lane.lookup(key(1))) for _ in range(100)]

        assert all(task.result() is not None for task in asked)
        assert store.batches == [[key(1)]]
        assert lane.stats().hits_redis == 100
        assert lane.stats().overflowed == 0


@virtual
async def test_full_queue_is_a_miss_at_once_and_counted() -> None:
    """Nobody waits to be allowed to wait."""
    store = MemoryAnswerStore()
    async with running(store, workers=1, queue_size=2) as lane, asyncio.TaskGroup() as group:
        store.gate.clear()
        for number in range(3):
            group.create_task(lane.lookup(key(number)))
            await asyncio.sleep(0.001)
        began = asyncio.get_running_loop().time()
        assert await lane.lookup(key(9)) is None

        assert asyncio.get_running_loop().time() == began
        stats = lane.stats()
        assert (stats.busy, stats.waiting, stats.max_waiting, stats.overflowed) == (1, 2, 2, 1)
        assert stats.oldest_wait_s == pytest.approx(0.002)
