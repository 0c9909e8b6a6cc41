"""How long one upstream call may take, and the one timer that sees to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from runtime.errors import FirstTokenTimeout, StreamIdleTimeout, StreamTimeout, UpstreamError


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `connect` includes the look-up of the name and TLS; `idle` is the time between two chunks."""

    connect: float = 10.0
    first_token: float = 60.0
    idle: float = 60.0
    total: float = 600.0


class Deadlines:
    """The deadlines of one call, absolute, on the loop's clock."""

    __slots__ = ("_idle", "_stage_at", "_streaming", "_total_at")

    def __init__(self, started: float, timeouts: Timeouts) -> None:
        self._idle = timeouts.idle
        self._total_at = started + timeouts.total
        self._stage_at = started + timeouts.first_token
        self._streaming = False

    def progress(self, now: float, content: bool) -> None:
        """Chunks have arrived. Until one has `content`, the first-token timer runs on."""
        if content or self._streaming:
            self._streaming = True
            self._stage_at = now + self._idle

    def due(self) -> float:
        """When the next of them expires, if nothing arrives until then."""
        return min(self._stage_at, self._total_at)

    def look_at(self, now: float) -> float:
        """When to look next so as to be late for none: the first token may bring the end nearer."""
        return min(self.due(), now + self._idle)

    def expired(self, now: float) -> UpstreamError | None:
        """The error of the deadline that `now` has reached, if any."""
        if now >= self._total_at:
            return StreamTimeout()
        if now >= self._stage_at:
            return StreamIdleTimeout() if self._streaming else FirstTokenTimeout()
        return None


class Watchdog:
    """Calls `bark` with the error once a deadline has passed.

    It looks at the deadlines when its timer fires and not when they move: a chunk then costs one
    assignment, where setting a timer back would cost a heap operation and leave a dead entry behind.
    """

    def __init__(self, deadlines: Deadlines, bark: Callable[[UpstreamError], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._deadlines = deadlines
        self._bark = bark
        self._timer = self._loop.call_at(deadlines.look_at(self._loop.time()), self._look)

    def stop(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        error = self._deadlines.expired(now)
        if error is None:
            self._timer = self._loop.call_at(self._deadlines.look_at(now), self._look)
        else:
            self._bark(error)
