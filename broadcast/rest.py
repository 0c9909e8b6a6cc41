"""When a process is at rest: nothing runs, and nothing is being stored."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress

from broadcast.broadcast import Broadcast
from broadcast.lifecycle import Phase
from upstream.chunk import Chunk


class Rest:
    """`storing`: answers that are on their way to the cache. Whoever changes anything calls `tell`."""

    def __init__(self, running: Collection[Broadcast[Chunk]]) -> None:
        self.storing = 0
        self._running = running
        self._changed: asyncio.Future[None] | None = None

    def tell(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    async def come(self, idle_s: float) -> None:
        """Until there is rest, but for what nobody has come to hear within `idle_s` seconds."""
        loop = asyncio.get_running_loop()
        patience = loop.time() + idle_s
        while self._running or self.storing:
            unheard = not self.storing and all(b.phase is Phase.IDLE for b in self._running)
            if unheard and loop.time() >= patience:
                return
            self._changed = loop.create_future()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(patience if unheard else None):
                    await self._changed
