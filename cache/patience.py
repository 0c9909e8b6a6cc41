"""Timeouts that blame Redis for being slow, and not for a stall of our own event loop.

A plain timer that comes due during a stall fires before the reply that lay in the socket all the time
is read: a burst of requests would turn hits into misses and open the breaker. Here the second half of
the time starts when the first half's timer has really fired, so a stall uses up one half at most. And
before it gives up, what has been read is heard: timers run ahead of what the last turn of the loop has
read from its sockets, and from the bytes to whoever waits for them it takes a few turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

#: Turns of the loop between the last timer and giving up.
TURNS = 5


def _nothing() -> None:
    """What a patience that is called off would do."""


class Patience:
    """Calls `end()` after `seconds`, later only by what the loop was stalled; `cancel()` calls it off."""

    __slots__ = ("_end", "_half", "_timer")

    _timer: asyncio.Handle

    def __init__(self, seconds: float, end: Callable[[], None]) -> None:
        self._half = seconds / 2
        self._end = end
        self._timer = asyncio.get_running_loop().call_later(self._half, self._at_half_time)

    def cancel(self) -> None:
        """Idempotent. Lets go of `end`, which usually knows us."""
        self._timer.cancel()
        self._end = _nothing

    def _at_half_time(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._half, self._turn, TURNS)

    def _turn(self, left: int) -> None:
        if left:
            self._timer = asyncio.get_running_loop().call_soon(self._turn, left - 1)
        else:
            self._end()


@asynccontextmanager
async def patience(seconds: float) -> AsyncIterator[None]:
    """Like asyncio.timeout: TimeoutError when the block takes longer than that."""
    async with asyncio.timeout(None) as limit:
        loop = asyncio.get_running_loop()
        timer = Patience(seconds, lambda: limit.reschedule(loop.time()))
        try:
            yield
        finally:
            timer.cancel()
