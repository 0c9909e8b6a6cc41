"""The clock of a try: it stands still while the try waits for a permit, so a queue uses up nobody's time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

#: Less than a timer can tell: it is over.
_NOTHING_S: Final = 1e-6


@asynccontextmanager
async def ran(limit_s: float | None, queued_s: Callable[[float], float]) -> AsyncIterator[None]:
    """TimeoutError when the block has run for `limit_s`, without the `queued_s(now)` that it waited."""
    if limit_s is None:
        yield
        return
    async with asyncio.timeout(None) as scope:
        clock = _Clock(limit_s, queued_s, scope)
        try:
            yield
        finally:
            clock.stop()


class _Clock:
    """Looks when the time may be over at the earliest, and is then set again: waiting only makes it later."""

    def __init__(self, limit_s: float, queued_s: Callable[[float], float], scope: asyncio.Timeout) -> None:
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._limit_s = limit_s
        self._queued_s = queued_s
        self._scope = scope
        self._timer = self._loop.call_later(limit_s, self._look)

    def stop(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        left = self._limit_s - (now - self._began - self._queued_s(now))
        if left > _NOTHING_S:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self._scope.reschedule(now)
