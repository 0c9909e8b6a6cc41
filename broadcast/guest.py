"""The claim of a request that was admitted by another process and is read in this one.

Its timers run where it was admitted, and so does its end; here it only counts who listens. A guest whose
last stream has been closed for the grace is forgotten, which is no end. What its broadcast ends with is held
back until its owner has said the same, or else: whoever reads it here must not know of an end before it does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from broadcast.broadcast import Broadcast
from broadcast.claim import Claim, ClaimTimers, Ticket
from broadcast.lifecycle import Phase
from broadcast.outcome import End, Outcome
from broadcast.subscription import Subscription


class GuestClaim(Claim):
    """Interested only while a stream of it is open here, and for the grace after.

    `on_held`: its broadcast has ended, and `let_go` is to follow. Without it nothing is held back.
    """

    def __init__(
        self,
        ticket: Ticket,
        broadcast: Broadcast[Any],
        timers: ClaimTimers,
        *,
        on_end: Callable[[Claim], None],
        on_left: Callable[[], None],
        on_held: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(ticket, broadcast, timers, attached=False, on_end=on_end)
        self.held: End | None = None  #: its broadcast's, not told to anybody yet
        self._on_held = on_held
        self.interested = False
        self.readers: set[Subscription[Any]] = set()
        self._came = True
        self._on_left = on_left
        # Asked for its status alone, it is kept for a moment: who asks once asks again.
        self._lapse_at(asyncio.get_running_loop().time() + max(timers.grace_s, 1.0))

    def enter(self, phase: Phase) -> None:
        """No timer of a phase: they run in the process that admitted it."""

    def end(self, end: End) -> None:
        if end is self.broadcast.end and self._hold(end):
            return
        self._on_left, self._on_held = _nothing, None
        super().end(end)
        if self.held is not None:
            self.broadcast.wake()  # its readers have been woken for an end that was not theirs yet

    def end_abandoned(self, at: float) -> None:
        if not self._hold(End(Outcome.CANCELLED, at, shared=False, reason="abandoned")):
            super().end_abandoned(at)

    def let_go(self) -> None:
        """What was held back is how it has ended, if nothing else has been said meanwhile."""
        if self.held is not None:
            self.end(self.held)

    def send_home(self) -> None:
        """Its request goes on elsewhere: its readers are let go without an end, and may resume there."""
        self.held = None
        for reader in list(self.readers):
            reader.release()
        on_left, self._on_left = self._on_left, _nothing
        on_left()
        self.broadcast.leave(self)

    def _hold(self, end: End) -> bool:
        on_held, self._on_held = self._on_held, None
        if on_held is None or self.ended is not None:
            return False
        self.held = end
        on_held()
        return True

    def _lose_interest(self) -> None:
        super()._lose_interest()
        if self.ended is None and not self.connections:
            on_left, self._on_left = self._on_left, _nothing
            on_left()
            self.broadcast.leave(self)
            self.broadcast.judge()


def _nothing() -> None:
    """It has ended, or has left already."""
