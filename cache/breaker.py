"""The circuit breaker in front of Redis: a server in trouble costs one timeout, not one per request.

Opened by the first call that gets no trustworthy reply. Closed by the probe alone, never by traffic,
so that no request is ever the guinea pig. The probe also runs while closed: an idle gateway learns of
a dead Redis before its first request does, and its readiness is right.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import random
from collections.abc import Awaitable, Callable

from cache.errors import StoreError

log = logging.getLogger("refrain.cache")

INTERVAL_S = 0.5
QUICK_AFTER_S = 5.0


class State(enum.StrEnum):
    """See the table in docs/design/redis.md."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """`probe` asks the server for something harmless and raises a StoreError if the reply is not right."""

    def __init__(
        self,
        probe: Callable[[], Awaitable[None]],
        *,
        on_open: Callable[[], None] = lambda: None,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._probe = probe
        self._on_open = on_open
        self._interval_s = interval_s
        self._hurry = asyncio.Event()
        self._closed_at = float("-inf")
        self.state = State.CLOSED

    def __repr__(self) -> str:
        return f"<Breaker {self.state}>"

    @property
    def closed(self) -> bool:
        """True if calls may go out. Half-open is not closed: only the probe goes out then."""
        return self.state is State.CLOSED

    def trip(self, reason: str) -> None:
        """A call got no trustworthy reply. `reason` is for the log: an operation and an error's type."""
        if self.state is not State.CLOSED:
            return
        self.state = State.OPEN
        log.warning("redis is in trouble, answers are not cached", extra={"reason": reason})
        # A stall of our own loop looks like a timeout of Redis, and one probe clears that up at once.
        # Not after a recent recovery: a server that answers probes and nothing else would cost a
        # timeout every 100 ms.
        if asyncio.get_running_loop().time() - self._closed_at >= QUICK_AFTER_S:
            self._hurry.set()
        self._on_open()

    async def run(self) -> None:
        """Probe for ever; an owned loop."""
        while True:
            await self.check()
            await self._pause()

    async def check(self) -> None:
        """Probe once and move to the state that it shows."""
        if self.state is State.OPEN:
            self.state = State.HALF_OPEN
        try:
            await self._probe()
        except StoreError as error:
            self._failed(str(error))
        except BaseException:
            self._failed("probe ended")
            raise
        else:
            self._recovered()

    def _failed(self, reason: str) -> None:
        if self.state is State.HALF_OPEN:
            self.state = State.OPEN
        else:
            self.trip(reason)

    def _recovered(self) -> None:
        if self.state is State.CLOSED:
            return
        self.state = State.CLOSED
        self._closed_at = asyncio.get_running_loop().time()
        log.info("redis answers again")

    async def _pause(self) -> None:
        # Jitter, or the processes of a fleet would all probe a server in the moment it comes back.
        interval_s = self._interval_s * random.uniform(0.75, 1.25)
        try:
            async with asyncio.timeout(interval_s):
                await self._hurry.wait()
        except TimeoutError:
            return
        finally:
            self._hurry.clear()
