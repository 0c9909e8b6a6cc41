"""How old an answer is: by the loop's clock while it is in the table, by the wall clock once it is stored."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from broadcast.sealing import Sealing
from cache.answer import SealedAnswer
from chatbot.freshness import age_of, older, ttl_of, usable
from tests.fakes.answer_store import MemoryAnswerStore
from tests.fakes.answers import answer, key
from tests.fakes.lane import running
from tests.fakes.pipeline import pipeline
from tests.virtual_time import virtual


@pytest.mark.parametrize(
    ("age_s", "max_age_s", "too_old"), [(0, 0, False), (0.1, 0, True), (5, 5, False), (5, None, False)]
)
def test_only_a_stated_bound_makes_an_answer_too_old(
    age_s: float, max_age_s: float | None, too_old: bool
) -> None:
    """`max-age=0` still takes what ended this very moment."""
    assert older(age_s, max_age_s) is too_old


@virtual
async def test_a_sealed_flight_ages_from_its_end() -> None:
    """Not from its beginning: a long answer is not old when it is complete. What is left to live shrinks."""
    async with pipeline(ttl_s=60) as pipe, asyncio.TaskGroup() as group:
        pipe.model.by_hand.add("q")
        record = await pipe.ask("q")
        group.create_task(pipe.read(record))
        call = await pipe.model.call("q")
        await asyncio.sleep(30)
        call.say("1")
        call.complete()
        await asyncio.sleep(7)
        assert age_of(record.broadcast) == pytest.approx(7)
        assert ttl_of(record.broadcast) == pytest.approx(53)
        await asyncio.sleep(60)
        assert ttl_of(record.broadcast) == 0


async def stored(age_s: float) -> SealedAnswer:
    """A readable answer that was stored so many seconds ago."""
    async with pipeline() as pipe:
        record = await pipe.ask("q")
        await pipe.read(record)
        log = record.broadcast.log
    async with running(MemoryAnswerStore()) as lane:
        await Sealing(lane, 600).store(key(1), log, None)
        found = await lane.lookup(key(1))
    assert found is not None
    return replace(found, stored_at=time.time() - age_s)


@virtual
async def test_a_stored_answer_is_usable_if_young_enough_and_readable() -> None:
    """Else it is a miss, whichever of the two it lacks."""
    found = await stored(age_s=100)
    assert usable(found, None) is not None
    assert usable(found, 1000) is not None
    assert usable(found, 50) is None
    assert usable(None, None) is None
    assert usable(answer(1), None) is None, "its chunks are no chunks"
