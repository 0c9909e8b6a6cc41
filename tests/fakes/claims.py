"""A broadcast with claims of made-up tickets, and a driver that only writes down what it was told."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import Any

from broadcast.broadcast import Broadcast
from broadcast.claim import Claim, ClaimTimers
from broadcast.lifecycle import Phase, Signal
from broadcast.log import Log

#: All different, so that no test passes by the wrong one.
TIMERS = ClaimTimers(queue_s=60, slot_s=120, subscribe_s=70, grace_s=5)
#: The way to each phase that a subscriber waits in.
COURSE = (Signal.GRANTED, Signal.PREPARED, Signal.SUBSCRIBED, Signal.SLOT_GRANTED)


@dataclass(frozen=True)
class Event:
    raw: bytes
    content: bool = True


@dataclass(frozen=True)
class Ticket:
    id: str
    order: float


@dataclass(eq=False)
class RecordingDriver:
    """`changes` is every change of phase, in order: from, to."""

    finish_unwatched: bool = False
    changes: list[tuple[Phase, Phase]] = field(default_factory=list)

    def grew(self, broadcast: Broadcast[Any]) -> None:
        """Nobody elsewhere to tell."""

    def attended(self, broadcast: Broadcast[Any]) -> None:
        """Nobody elsewhere to tell."""

    def may_abandon(self, broadcast: Broadcast[Any], *, expired: bool) -> bool:
        return True

    def entered(self, broadcast: Broadcast[Any], before: Phase) -> None:
        self.changes.append((before, broadcast.phase))

    @property
    def entered_phases(self) -> list[Phase]:
        return [phase for _, phase in self.changes]


class Scene:
    """One broadcast and its claims. `ends` has each claim once for every time that it ended."""

    def __init__(self, *, finish: bool = False, timers: ClaimTimers = TIMERS) -> None:
        self.driver = RecordingDriver(finish)
        self.broadcast: Broadcast[Event] = Broadcast("key", Log(1), self.driver)
        self.ends: list[Claim] = []
        self._timers = timers
        self._numbers = count(1)

    def join(self, *, attached: bool = False, order: float = 0.0) -> Claim:
        ticket = Ticket(f"c{next(self._numbers)}", order)
        claim = Claim(ticket, self.broadcast, self._timers, attached=attached, on_end=self.ends.append)
        self.broadcast.join(claim)
        return claim

    def go(self, phase: Phase) -> None:
        """Lead the broadcast to `phase`; whether it gets beyond IDLE is up to its claims, as ever."""
        steps = {Phase.WAITING: 0, Phase.PREPARING: 1, Phase.IDLE: 2, Phase.QUEUED: 2, Phase.LIVE: 4}[phase]
        for signal in COURSE[:steps]:
            if signal is not Signal.SUBSCRIBED:
                self.broadcast.signal(signal)
        assert self.broadcast.phase is phase

    def at(self, phase: Phase) -> bool:
        return self.broadcast.phase is phase

    def say(self, *texts: bytes) -> None:
        self.broadcast.append([Event(text) for text in texts])
