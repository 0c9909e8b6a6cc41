"""A reader of a broadcast: a cursor on its log, and a way to be woken."""

from __future__ import annotations

import asyncio
from typing import Generic

from broadcast.log import E, Form, Log


class Subscription(Generic[E]):
    """One connection's place in the log. Only its own reader moves the cursor.

    Waking is level-triggered: a wake between two waits is not lost, and several are one.
    """

    __slots__ = ("_dirty", "_epoch", "_waiter", "closed", "cursor", "log", "released")

    def __init__(self, log: Log[E], cursor: int = 0) -> None:
        self.log = log
        self.cursor = cursor
        self._epoch = log.epoch
        self.closed = False
        self.released = False
        self._dirty = True
        # One future per waiter: a shared one would be cancelled for all with the first task cancelled.
        self._waiter: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<Subscription [{self.cursor}/{len(self.log)}{', closed' if self.closed else ''}]>"

    @property
    def behind(self) -> int:
        return 0 if self.voided else len(self.log) - self.cursor

    @property
    def voided(self) -> bool:
        """The log has restarted under another epoch: what this reader has taken is void."""
        return self._epoch != self.log.epoch

    def rewind(self) -> None:
        """Read the log that is there now from its start."""
        self.cursor, self._epoch = 0, self.log.epoch

    def take(self, form: Form[E]) -> bytes:
        """All that is new since the last take, in one piece; b"" if nothing is, or until `rewind`."""
        if self.cursor == len(self.log) or self._epoch != self.log.epoch:
            return b""
        data = self.log.since(self.cursor, form)
        self.cursor = len(self.log)
        return data

    def wake(self) -> None:
        self._dirty = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def release(self) -> None:
        """Let its reader go without an end: it may go on elsewhere."""
        self.released = True
        self.wake()

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
