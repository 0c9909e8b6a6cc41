"""A broadcast: one answer, the log of it, and everybody who has a stake in it.

State: the phase, the claims and their two counts, the log, the readers, the end. It is changed only
by the synchronous methods below; what has to be done about a change (start the upstream call, cancel
it, forget the key) is told to the `Driver`, which acts on it asynchronously.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Any, Generic, Protocol

from admission import Admission
from broadcast.claim import Claim
from broadcast.lifecycle import RUNNING, Phase, Signal, advance, prepared_s
from broadcast.log import E, Log
from broadcast.outcome import End, Outcome
from broadcast.shown import Shown
from broadcast.subscription import Subscription
from cache.views import Others
from runtime.errors import GatewayError


class Driver(Protocol):
    """Who acts on what a broadcast decides."""

    finish_unwatched: bool

    def entered(self, broadcast: Broadcast[Any], before: Phase) -> None:
        """The phase has changed from `before` to `broadcast.phase`."""

    def grew(self, broadcast: Broadcast[Any]) -> None:
        """Its log has more events."""

    def attended(self, broadcast: Broadcast[Any]) -> None:
        """Of a mirror: who is connected or interested here may have changed."""

    def may_abandon(self, broadcast: Broadcast[Any], *, expired: bool) -> bool:
        """Nobody here is interested. False: it is being asked whether anybody is elsewhere."""


_SIGNALS = {
    Outcome.COMPLETED: Signal.COMPLETE,
    Outcome.FAILED: Signal.FAIL,
    Outcome.CANCELLED: Signal.ABANDON,
    Outcome.EXPIRED: Signal.EXPIRE,
}


class Broadcast(Generic[E]):
    """`key` is None where the answer is not shared."""

    def __init__(self, key: str | None, log: Log[E], driver: Driver) -> None:
        self.key = key
        self.log = log
        self.phase = Phase.WAITING
        self.end: End | None = None
        self.claims: dict[str, Claim] = {}
        self.readers: set[Subscription[E]] = set()
        self.admission: Admission | None = None  #: where it waits, or the permit it holds
        self.stored = False  #: the cache has accepted it
        self.ttl_s = 0.0  #: for how long after its end it may be served
        self.fresh_until = float("inf")  #: loop time from which nobody joins what preparation has found
        self.attempts = 0  #: upstream calls made so far for the prompt that it has now
        self.not_before = 0.0  #: loop time of the next one, after a failed one
        self.opened_at = asyncio.get_running_loop().time()
        self.entered_at: dict[Phase, float] = {Phase.WAITING: self.opened_at}  #: the first time each
        self.first_delta_at: float | None = None
        self.order = float("inf")
        self.remote = False  #: a mirror: made by another process
        self.dismissed = False  #: a mirror: whoever was interested last has cancelled
        self.foreign = Others()  #: who follows it from other processes
        self.shown = Shown()  #: of a mirror: what its maker says of its place
        self.step: str | None = None  #: of preparation
        self.setback: GatewayError | None = None  #: why the call before this one failed
        self.traceparent = ""  #: of the span of the work on it, wherever that is done
        self.work: asyncio.Task[None] | None = None  #: what the driver runs for it now
        self.driver = driver
        self._turns: list[tuple[float, str, Claim]] = []  # heap; those who lost interest are dropped lazily
        self._connected = self._interested = 0

    @classmethod
    def landed(cls, key: str | None, log: Log[E], driver: Driver) -> Broadcast[E]:
        """A sealed one, from the cache: the same object, already at its end."""
        broadcast = cls(key, log, driver)
        broadcast.phase = Phase.SEALED
        broadcast.end = End(Outcome.COMPLETED, broadcast.opened_at, shared=True)
        broadcast.entered_at[Phase.SEALED] = broadcast.first_delta_at = broadcast.opened_at
        return broadcast

    def __repr__(self) -> str:
        return (
            f"<Broadcast {self.key and self.key[:12]} [{self.phase}, {len(self.claims)} claims, "
            f"{self._connected} connected, {len(self.log)} events]>"
        )

    @property
    def running(self) -> bool:
        return self.phase in RUNNING

    @property
    def live(self) -> bool:
        """Nothing to wait for but events: it streams, or it has ended."""
        return self.phase is Phase.LIVE or not self.running

    @property
    def joinable(self) -> bool:
        """May a twin share this answer? Running or sealed, small enough to be replayed, and not too old."""
        there = (self.running or self.phase is Phase.SEALED) and not self.log.overflowed
        return there and asyncio.get_running_loop().time() < self.fresh_until

    @property
    def position(self) -> int:
        """The place in the queue it waits in, from 1; 0 if it waits in none."""
        if self.remote:
            return self.shown.position
        if self.phase in (Phase.WAITING, Phase.QUEUED) and self.admission is not None:
            return self.admission.position
        return 0

    @property
    def place(self) -> int:
        """`position` as it is told, here and elsewhere: it only falls, whoever overtakes."""
        return self.position if self.remote or self.admission is None else self.admission.told(self.position)

    @property
    def stake(self) -> str:
        """What this process wants of it: "f" follows, "i" somebody is interested, "+" connected."""
        return "f" + ("i" if self._interested else "") + ("+" if self._connected else "")

    # -- claims -------------------------------------------------------------------------------
    def join(self, claim: Claim) -> None:
        """Synchronous, so that there is no moment at which a twin could find neither log nor cache."""
        if self.end is not None:
            claim.end(self.end)
            return
        self.claims[claim.ticket.id] = claim
        if claim.interested:
            self.interest(claim, 1)
        if claim.connections:
            self.connection(1)
        claim.enter(self.phase)
        self.judge()

    def leave(self, claim: Claim) -> None:
        """A claim that ends alone takes its counts with it."""
        if self.claims.pop(claim.ticket.id, None) is None:
            return
        if claim.connections:
            self.connection(-1)
        if claim.interested:
            claim.interested = False
            self.interest(claim, -1)
        self.wake()

    def connection(self, delta: int) -> None:
        """A claim got its first open stream, or lost its last."""
        self._connected += delta

    def interest(self, claim: Claim, delta: int) -> None:
        """A claim became interested, or no longer is: the turn follows the best who still are."""
        self._interested += delta
        if delta > 0:
            heappush(self._turns, (claim.ticket.order, claim.ticket.id, claim))
        while self._turns and not self._turns[0][2].interested:
            heappop(self._turns)
        if self._turns:
            self._set_order(self._turns[0][0])

    def judge(self, *, explicit: bool = False, expired: bool = False) -> None:
        """Draw the consequence of who is connected and who is interested now."""
        if not self.running:
            return
        connected = self._connected or self.foreign.connected
        if self.remote:
            self.dismissed = explicit
            self._judge_mirror()
        elif not self._interested and not self.foreign.interested:
            if self.phase is Phase.LIVE and self.driver.finish_unwatched and not explicit:
                return
            expired = expired and not self.claims
            if self.driver.may_abandon(self, expired=expired):
                self.abandon(expired=expired)
        elif self.phase is Phase.IDLE and connected:
            self.signal(Signal.SUBSCRIBED)
        elif self.phase is Phase.QUEUED and not connected:
            self.signal(Signal.DESERTED)

    def _judge_mirror(self) -> None:
        """Its maker judges; here it ends only when no request is left that could be read."""
        if self.claims:
            self.driver.attended(self)
        else:
            self.abandon(expired=False)

    def heard(self, others: Others, *, dismissed: bool = False) -> None:
        """How many other processes follow, and with whom. `dismissed`: the last there has cancelled."""
        self.foreign = others
        self.judge(explicit=dismissed)

    def abandon(self, *, expired: bool) -> None:
        """Nobody anywhere is interested."""
        if not self.running:
            return
        signal = Signal.EXPIRE if expired else Signal.ABANDON
        self._finish(signal, Outcome.EXPIRED if expired else Outcome.CANCELLED, None)

    # -- the course ---------------------------------------------------------------------------
    def signal(self, signal: Signal) -> None:
        """Move to the next running phase."""
        before, self.phase = self.phase, advance(self.phase, signal)
        self.entered_at.setdefault(self.phase, asyncio.get_running_loop().time())
        for claim in list(self.claims.values()):
            claim.enter(self.phase)
        self.wake()
        self.driver.entered(self, before)
        self.judge()

    def show(self, phase: Phase) -> None:
        """A mirror is in the phase that its maker says; a restarted broadcast in its first."""
        if phase is not self.phase:
            self.phase = phase
            self.entered_at.setdefault(phase, asyncio.get_running_loop().time())
            for claim in list(self.claims.values()):
                claim.enter(phase)
        self.wake()

    def restart(self, epoch: int, *, remote: bool) -> None:
        """Its maker is gone: it starts again under another epoch, made here or elsewhere."""
        self.remote = remote
        self.log.restart(epoch)
        self.foreign, self.shown = Others(), Shown()
        self.first_delta_at = self.step = self.admission = None
        self.attempts, self.not_before, self.fresh_until = 0, 0.0, float("inf")
        self.show(Phase.WAITING)

    def show_step(self, step: str) -> None:
        self.step = step
        self.wake()

    def append(self, events: Sequence[E]) -> None:
        self.log.extend(events)
        if self.first_delta_at is None and self.log.seq:
            self.first_delta_at = asyncio.get_running_loop().time()
        self.driver.grew(self)
        self.wake()

    def complete(self) -> None:
        """The upstream's stream has ended as a complete answer does."""
        self._finish(Signal.COMPLETE, Outcome.COMPLETED, None)

    def fail(self, error: GatewayError) -> None:
        """For all: what has been produced is kept, nothing is cached, the next twin starts fresh."""
        if self.running:
            self._finish(Signal.FAIL, Outcome.FAILED, error)

    def conclude(self, outcome: Outcome, error: GatewayError | None) -> None:
        """A mirror ends as its maker says it did."""
        if not self.running:
            return
        if outcome is Outcome.COMPLETED:
            self.show(Phase.LIVE)
        self._finish(_SIGNALS[outcome], outcome, error)

    def wake(self) -> None:
        for reader in self.readers:
            reader.wake()

    # -- inside -------------------------------------------------------------------------------
    def _finish(self, signal: Signal, outcome: Outcome, error: GatewayError | None) -> None:
        now = asyncio.get_running_loop().time()
        before, self.phase = self.phase, advance(self.phase, signal)
        self.entered_at[self.phase] = now
        self.end = End(outcome, now, shared=True, error=error)
        self.log.end()
        if signal is Signal.COMPLETE and not self.log.made_s:
            self.log.made_s = prepared_s(self.entered_at) + now - self.entered_at[Phase.LIVE]
        claims, self.claims = list(self.claims.values()), {}
        try:
            # The driver first: whoever reacts to a claim's end must find the key free and the work stopped.
            self.driver.entered(self, before)
        finally:
            for claim in claims:
                if signal is Signal.ABANDON:
                    claim.end_abandoned(now)
                else:
                    claim.end(self.end)
            # What points back at us: an ended answer, with all its chunks, must not be a cycle.
            self._turns.clear()
            self.setback = self.admission = None
            self.wake()

    def _set_order(self, order: float) -> None:
        if order != self.order:
            self.order = order
            if self.admission is not None and self.admission.permit is None:
                self.admission.reorder()
