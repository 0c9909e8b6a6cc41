"""The claim of a request that was admitted by another process and is read in this one.

Its timers run where it was admitted, and so does its end; here it only counts who listens. A guest whose
last stream has been closed for the grace is forgotten, which is no end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from broadcast.broadcast import Broadcast
from broadcast.claim import Claim, ClaimTimers, Ticket
from broadcast.lifecycle import Phase
from broadcast.outcome import End
from broadcast.subscription import Subscription


class GuestClaim(Claim):
    """Interested only while a stream of it is open here, and for the grace after."""

    def __init__(
        self,
        ticket: Ticket,
        broadcast: Broadcast[Any],
        timers: ClaimTimers,
        *,
        on_end: Callable[[Claim], None],
        on_left: Callable[[], None],
    ) -> None:
        super().__init__(ticket, broadcast, timers, attached=False, on_end=on_end)
        self.interested = False
        self.readers: set[Subscription[Any]] = set()
        self._came = True
        self._on_left = on_left
        # Asked for its status alone, it is kept for a moment: who asks once asks again.
        self._lapse_at(asyncio.get_running_loop().time() + max(timers.grace_s, 1.0))

    def enter(self, phase: Phase) -> None:
        """No timer of a phase: they run in the process that admitted it."""

    def end(self, end: End) -> None:
        self._on_left = _nothing
        super().end(end)

    def send_home(self) -> None:
        """Its request goes on elsewhere: its readers are let go without an end, and may resume there."""
        for reader in list(self.readers):
            reader.release()
        on_left, self._on_left = self._on_left, _nothing
        on_left()
        self.broadcast.leave(self)

    def _lose_interest(self) -> None:
        super()._lose_interest()
        if self.ended is None and not self.connections:
            on_left, self._on_left = self._on_left, _nothing
            on_left()
            self.broadcast.leave(self)
            self.broadcast.judge()


def _nothing() -> None:
    """It has ended, or has left already."""
