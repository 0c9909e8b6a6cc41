"""Timeouts that a stall of our own loop does not use up."""

from __future__ import annotations

import asyncio

import pytest

from cache.patience import Patience, patience
from tests.virtual_time import virtual


@virtual
async def test_time_is_up_after_exactly_the_seconds_given() -> None:
    """On a loop that is not stalled it is a plain timeout."""
    loop = asyncio.get_running_loop()
    began = loop.time()

    with pytest.raises(TimeoutError):
        async with patience(0.1):
            await loop.create_future()

    assert loop.time() - began == pytest.approx(0.1)


@virtual
async def test_stall_of_the_loop_does_not_count_against_a_reply_that_is_there() -> None:
    """After a stall longer than the whole timeout, what lies in the socket is still read."""
    loop = asyncio.get_running_loop()
    reply = loop.create_future()
    # The reply arrives and every timer comes due in the same turn of the loop, timers first.
    loop.call_later(0.09, reply.set_result, "hit")
    ended: list[str] = []
    timer = Patience(0.1, lambda: ended.append("timed out"))
    loop._now += 1.0  # type: ignore[attr-defined]

    assert await reply == "hit"
    assert ended == []
    timer.cancel()


@virtual
async def test_cancelled_patience_ends_nothing() -> None:
    """In neither half, and cancelling twice is fine."""
    ended: list[str] = []
    early, late = Patience(1.0, lambda: ended.append("early")), Patience(1.0, lambda: ended.append("late"))
    early.cancel()
    await asyncio.sleep(0.75)
    late.cancel()
    late.cancel()
    await asyncio.sleep(5)

    assert ended == []
