"""A claim: one request's stake in a broadcast. Interest is counted, not guessed.

A native claim is interested while a stream of its is open, for the grace after the last one closed,
and, before its first stream, until its subscribe deadline. An attached claim (an OpenAI call) is
interested exactly while its connection lives. A claim ends once: by itself (cancelled, expired) or
with its broadcast.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from broadcast.lifecycle import Phase
from broadcast.outcome import End, Outcome
from runtime.errors import GatewayError, QueueTimeout, SlotTimeout, SubscribeTimeout

if TYPE_CHECKING:
    from broadcast.broadcast import Broadcast


class Ticket(Protocol):
    @property
    def id(self) -> str: ...

    @property
    def order(self) -> float: ...


@dataclass(frozen=True, slots=True)
class ClaimTimers:
    """Seconds. Each starts when its own stage is entered, or when the claim joins, whichever is later."""

    queue_s: float = 60.0
    slot_s: float = 120.0
    subscribe_s: float = 60.0
    grace_s: float = 5.0


#: Until the process that a reader has come to is sure to be counted.
COUNTED_S = 2.0


class Claim:
    """State: connections, interest, two timers and the end. Everything else belongs to the broadcast."""

    def __init__(
        self,
        ticket: Ticket,
        broadcast: Broadcast[Any],
        timers: ClaimTimers,
        *,
        attached: bool,
        on_end: Callable[[Claim], None],
    ) -> None:
        self.ticket = ticket
        self.broadcast = broadcast
        self.attached = attached
        self.connections = 1 if attached else 0
        self.joined_at = asyncio.get_running_loop().time()
        self.ended: End | None = None
        self.interested = True
        self._timers = timers
        self._on_end: Callable[[Claim], None] | None = on_end
        self._came = attached  # has a stream of this request ever been open?
        self._subscribe_by: float | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._lapse: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        state = self.ended.outcome if self.ended else ("interested" if self.interested else "lapsed")
        return f"<Claim {self.ticket.id} [{state}, {self.connections} connected]>"

    # -- connections --------------------------------------------------------------------------
    def connect(self) -> None:
        """A stream of this request opens."""
        self.connections += 1
        self._came = True
        if self.ended is None:
            self._cancel_lapse()
            if self.connections == 1:
                self.broadcast.connection(1)
            if not self.interested:
                self.interested = True
                self.broadcast.interest(self, 1)
            self.broadcast.judge()

    def disconnect(self) -> None:
        """A stream of it closed. Detach, not cancel: what follows is judged by the broadcast."""
        self.connections -= 1
        if self.connections or self.ended is not None:
            return
        self.broadcast.connection(-1)
        if self.attached:
            self.withdraw()
        elif self._timers.grace_s == 0:
            self._lose_interest()
        else:
            self._lapse_at(asyncio.get_running_loop().time() + self._timers.grace_s)
            self.broadcast.judge()

    # -- the end ------------------------------------------------------------------------------
    def cancel(self, reason: str) -> None:
        """End this request alone; the broadcast goes on if anybody else is interested."""
        self._end_alone(Outcome.CANCELLED, reason=reason)
        self.broadcast.judge(explicit=True)

    def fail(self, error: GatewayError) -> None:
        """End this request alone, for what its reader has seen and cannot be continued."""
        self._end_alone(Outcome.FAILED, error=error)
        self.broadcast.judge()

    def finish_alone(self, end: End) -> None:
        """It has ended elsewhere: here too, as there."""
        if self.ended is None:
            self.broadcast.leave(self)
            self.end(end)
            self.broadcast.judge()

    def came_elsewhere(self) -> None:
        """A stream of it is open in another process, which counts it from now on; here it lapses."""
        if self.ended is not None or self._came:
            return
        self._came = True
        if self.broadcast.phase is Phase.IDLE:
            self._cancel_expiry()  # it was the subscribe timer
        self._cancel_lapse()
        if self.connections == 0:
            self._lapse_at(asyncio.get_running_loop().time() + max(self._timers.grace_s, COUNTED_S))

    def send_home(self) -> None:
        """This process ends. What was admitted here ends with it."""

    def withdraw(self) -> None:
        """Its client left before the request was fully admitted: a disconnect, not a wish to stop."""
        self._end_alone(Outcome.CANCELLED, reason="disconnected")
        self.broadcast.judge()

    def end(self, end: End) -> None:
        """The first end stays; there is exactly one."""
        if self.ended is not None:
            return
        self.ended = end
        self.interested = False
        self._cancel_expiry()
        self._cancel_lapse()
        # Let go of, else each request would be a cycle, and its memory wait for a full collection.
        on_end, self._on_end = self._on_end, None
        assert on_end is not None
        on_end(self)

    def end_abandoned(self, at: float) -> None:
        """The broadcast ended because nobody was interested: never came, or came and left."""
        if self._came:
            self.end(End(Outcome.CANCELLED, at, shared=False, reason="abandoned"))
        else:
            self.end(End(Outcome.EXPIRED, at, shared=False, error=SubscribeTimeout()))

    def _end_alone(
        self, outcome: Outcome, *, error: GatewayError | None = None, reason: str | None = None
    ) -> None:
        if self.ended is None:
            self.broadcast.leave(self)
            self.end(
                End(outcome, asyncio.get_running_loop().time(), shared=False, error=error, reason=reason)
            )

    # -- timers -------------------------------------------------------------------------------
    def enter(self, phase: Phase) -> None:
        """The broadcast has entered `phase`, or the claim has joined it there: its timers start."""
        now = asyncio.get_running_loop().time()
        self._cancel_expiry()
        if phase in (Phase.IDLE, Phase.QUEUED, Phase.LIVE) and self._subscribe_by is None:
            self._subscribe_by = now + self._timers.subscribe_s
        if phase is Phase.WAITING:
            self._expire_at(now + self._timers.queue_s, QueueTimeout)
        elif phase is Phase.QUEUED:
            self._expire_at(now + self._timers.slot_s, SlotTimeout)
        if self._came or self._subscribe_by is None:
            return
        if phase is Phase.IDLE:
            self._cancel_lapse()
            self._expire_at(self._subscribe_by, SubscribeTimeout)
        elif self._lapse is None:
            # Others listen, this one has not come yet: it counts until its subscribe deadline.
            self._lapse_at(self._subscribe_by)

    def _expire_at(self, when: float, error: type[GatewayError]) -> None:
        self._expiry = asyncio.get_running_loop().call_at(when, self._expire, error)

    def _cancel_expiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    def _expire(self, error: type[GatewayError]) -> None:
        self._end_alone(Outcome.EXPIRED, error=error())
        self.broadcast.judge(expired=True)

    def _lapse_at(self, when: float) -> None:
        self._lapse = asyncio.get_running_loop().call_at(when, self._lose_interest)

    def _cancel_lapse(self) -> None:
        if self._lapse is not None:
            self._lapse.cancel()
            self._lapse = None

    def _lose_interest(self) -> None:
        self._lapse = None
        if self.interested and self.ended is None:
            self.interested = False
            self.broadcast.interest(self, -1)
            self.broadcast.judge()
