"""The fast lane in trouble: whatever goes wrong, a look-up ends, as a miss, in time."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest

from cache.answer import SealedAnswer
from cache.codec import encode
from cache.errors import StoreDown, StoreRefused
from cache.fastlane import FastLane
from tests.cancellation import cancel_at_every_await
from tests.fakes.answer_store import MemoryAnswerStore
from tests.fakes.answers import answer, key
from tests.fakes.lane import assert_at_rest, filled, running
from tests.fakes.real_redis import supervised
from tests.virtual_time import virtual


@virtual
async def test_look_up_ends_within_a_tenth_of_a_second_whatever_the_store_does() -> None:
    """Queue and round trip share the 100 ms; a late reply still fills the in-process layer."""
    store = MemoryAnswerStore()
    async with running(store, workers=1, local_bytes=1 << 20) as lane:
        await filled(store, 1)
        store.gate.clear()
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as group:
            for number in range(200):
                group.create_task(lane.lookup(key(number)))

        assert loop.time() - began == pytest.approx(0.1)
        store.gate.set()
        await asyncio.sleep(0.1)
        assert lane.peek(key(1)) is not None


@virtual
async def test_trouble_frees_everybody_who_waits_and_stops_the_asking() -> None:
    """One failed round trip opens the breaker: the queue is flushed, later look-ups ask nobody."""
    store = MemoryAnswerStore()
    async with running(store, workers=1) as lane:
        store.gate.clear()
        async with asyncio.TaskGroup() as group:
            for number in range(200):
                group.create_task(lane.lookup(key(number)))
            await asyncio.sleep(0.01)
            store.trouble = StoreDown("get: TimeoutError")
            store.gate.set()
        asked = len(store.batches)

        assert await lane.lookup(key(1)) is None
        assert len(store.batches) == asked == 1
        assert not lane.healthy
        assert not lane.healthy


@virtual
async def test_hits_come_back_by_themselves() -> None:
    """After the trouble, without a restart and within the second."""
    store = MemoryAnswerStore()
    async with running(store) as lane:
        await filled(store, 1)
        store.trouble = StoreDown("get: ConnectionError")
        assert await lane.lookup(key(1)) is None
        await asyncio.sleep(60)
        store.trouble = None
        await asyncio.sleep(1)

        assert await lane.lookup(key(1)) is not None
        assert lane.healthy


@virtual
async def test_refusal_is_a_miss_and_the_next_look_up_asks_again() -> None:
    """A server that says no is alive: its error is not held against it."""
    store = MemoryAnswerStore()
    async with running(store) as lane:
        await filled(store, 1)
        await asyncio.sleep(0.01)
        store.trouble = StoreRefused("get: ResponseError")
        assert await lane.lookup(key(1)) is None
        store.trouble = None

        assert await lane.lookup(key(1)) is not None


@virtual
async def test_foreign_or_damaged_value_is_a_miss_and_counted() -> None:
    """A crossed reply carries another key; it is never served."""
    store = MemoryAnswerStore()
    errors: list[str] = []
    async with running(store, on_error=errors.append) as lane:
        await store.put(key(1), encode(answer(2)), 600)
        await store.put(key(3), b"nonsense", 600)

        assert await lane.lookup(key(1)) is None
        assert await lane.lookup(key(3)) is None
        assert errors == ["decode", "decode"]


@virtual
async def test_answer_that_does_not_fit_is_not_shared() -> None:
    """Too large, over its TTL, or on several lines: refused at once, and not kept here either."""
    store = MemoryAnswerStore(max_entry_bytes=1000)
    errors: list[str] = []
    async with running(store, local_bytes=1 << 20, on_error=errors.append) as lane:
        for misfit in (
            answer(1, text=b"x" * 1000),
            answer(1, ttl_s=0.0),
            replace(answer(1), chunks=(b"{\n}",)),
        ):
            assert not await lane.store(misfit)
            assert lane.peek(key(1)) is None
        assert errors == ["encode"]


@virtual
async def test_store_is_refused_at_once_while_redis_is_in_trouble() -> None:
    """The in-process layer has it all the same."""
    store = MemoryAnswerStore()
    async with running(store, local_bytes=1 << 20) as lane:
        store.trouble = StoreDown("get: ConnectionError")
        await lane.lookup(key(9))

        assert not await lane.store(answer(1))
        assert lane.peek(key(1)) is not None


@virtual
async def test_switched_off_cache_asks_and_keeps_nothing() -> None:
    """Every look-up is a miss at once, every store is refused, and no loop runs."""
    store = MemoryAnswerStore()
    lane = FastLane(store, enabled=False)
    async with supervised() as supervisor:
        lane.start(supervisor)

        assert not await lane.store(answer(1))
        assert await lane.lookup(key(1)) is None
        assert (len(supervisor), store.batches, store.pings) == (0, [], 0)
        assert lane.healthy


@virtual
async def test_close_frees_everybody_and_lets_nobody_wait_again() -> None:
    """Shutdown is a miss for whoever still asks."""
    store = MemoryAnswerStore()
    async with running(store, workers=1) as lane, asyncio.TaskGroup() as group:
        store.gate.clear()
        group.create_task(lane.lookup(key(0)))
        await asyncio.sleep(0.001)
        waiting = group.create_task(lane.lookup(key(1)))
        await asyncio.sleep(0.001)
        lane.close()
        lane.close()

        assert await waiting is None
        assert await lane.lookup(key(2)) is None
        assert not await lane.store(answer(1))
        store.gate.set()


@virtual
async def test_ended_workers_leave_nobody_waiting() -> None:
    """Whoever's question a worker held when the supervisor ended it gets a miss."""
    store = MemoryAnswerStore()
    lane = FastLane(store, workers=1, local_bytes=0)
    async with asyncio.TaskGroup() as group:
        async with supervised() as supervisor:
            lane.start(supervisor)
            store.gate.clear()
            asked = group.create_task(lane.lookup(key(1)))
            await asyncio.sleep(0.01)
        began = asyncio.get_running_loop().time()
        assert await asked is None
        assert asyncio.get_running_loop().time() == began

    assert_at_rest(lane.stats())


@virtual
async def test_cancel_at_any_await_loses_nothing() -> None:
    """A look-up cancelled anywhere leaves no place taken, and the lane serves the next one."""
    store = MemoryAnswerStore()
    async with running(store, workers=1, queue_size=1) as lane:
        await filled(store, 1)

        async def unharmed(n: int) -> None:
            await asyncio.sleep(0.2)
            assert_at_rest(lane.stats())
            assert await lane.lookup(key(1)) is not None

        for moment in ("waiting", "granted"):
            assert await cancel_at_every_await(lambda: lane.lookup(key(1)), unharmed, moment=moment) >= 1


@virtual
async def test_cancel_storm_hurts_nobody_else() -> None:
    """Of 2,000 look-ups a random half is cancelled at random moments; every other one gets its answer."""
    store = MemoryAnswerStore()
    chance = random.Random(7)
    async with running(store, workers=3, queue_size=2000) as lane:
        await filled(store, *range(50))
        store.latency_s = 0.0003
        asked: list[asyncio.Task[SealedAnswer | None]] = []
        async with asyncio.TaskGroup() as group:
            for _ in range(2000):
                asked.append(group.create_task(lane.lookup(key(chance.randrange(50)))))
                if chance.random() < 0.5:
                    asyncio.get_running_loop().call_later(chance.uniform(0, 0.0005), asked[-1].cancel)
                if chance.random() < 0.1:
                    await asyncio.sleep(0.0001)

        assert all(task.cancelled() or task.result() is not None for task in asked)
        assert any(task.cancelled() for task in asked)
        assert await lane.lookup(key(1)) is not None


@virtual
async def test_time_in_the_queue_is_told_for_each_question() -> None:
    """As many observations as questions taken: the histogram and the counter agree."""
    waits: list[float] = []
    store = MemoryAnswerStore()
    async with running(store, workers=1, on_wait=waits.append) as lane, asyncio.TaskGroup() as group:
        store.gate.clear()
        group.create_task(lane.lookup(key(1)))
        await asyncio.sleep(0.01)
        group.create_task(lane.lookup(key(2)))
        await asyncio.sleep(0.02)
        store.gate.set()
        await asyncio.sleep(0.01)

        assert waits == [0.0, pytest.approx(0.02)]
        assert lane.stats().admitted == len(waits)
