"""A reader of a broadcast: a cursor on its log, and a way to be woken."""

from __future__ import annotations

import asyncio
from typing import Generic

from broadcast.log import E, Form, Log


class Subscription(Generic[E]):
    """One connection's place in the log. Only its own reader moves the cursor.

    Waking is level-triggered: a wake between two waits is not lost, and several are one.
    """

    __slots__ = ("_dirty", "_waiter", "closed", "cursor", "log")

    def __init__(self, log: Log[E], cursor: int = 0) -> None:
        self.log = log
        self.cursor = cursor
        self.closed = False
        self._dirty = True
        # One future per waiter: a shared one would be cancelled for all with the first task cancelled.
        self._waiter: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<Subscription [{self.cursor}/{len(self.log)}{', closed' if self.closed else ''}]>"

    @property
    def behind(self) -> int:
        return len(self.log) - self.cursor

    def take(self, form: Form[E]) -> bytes:
        """All that is new since the last take, in one piece; b"" if nothing is."""
        if self.cursor == len(self.log):
            return b""
        data = self.log.since(self.cursor, form)
        self.cursor = len(self.log)
        return data

    def wake(self) -> None:
        self._dirty = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        """The reader is gone: its wait ends now."""
        self.closed = True
        self.wake()

    async def wait(self) -> None:
        """Until woken; at once if that happened since the last wait."""
        if not self._dirty:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._dirty = False
