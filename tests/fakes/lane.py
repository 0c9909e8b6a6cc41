"""A running fast lane on a store in memory, checked to be at rest when it is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from cache.codec import encode
from cache.fastlane import FastLane, LaneStats
from tests.fakes.answer_store import MemoryAnswerStore
from tests.fakes.answers import answer, key
from tests.fakes.real_redis import supervised


@asynccontextmanager
async def running(store: MemoryAnswerStore, **options: Any) -> AsyncIterator[FastLane]:
    """A started lane, without the in-process layer unless asked for; at rest once the store answers."""
    lane = FastLane(store, **{"local_bytes": 0, **options})
    async with supervised() as supervisor:
        lane.start(supervisor)
        yield lane
        store.gate.set()
        await asyncio.sleep(1)
        assert_at_rest(lane.stats())


def assert_at_rest(stats: LaneStats) -> None:
    assert stats.admitted == stats.released
    assert (stats.busy, stats.waiting, stats.oldest_wait_s) == (0, 0, 0.0)


async def filled(store: MemoryAnswerStore, *numbers: int) -> None:
    for number in numbers:
        assert await store.put(key(number), encode(answer(number)), 600)
