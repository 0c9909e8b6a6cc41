"""A stage: a bounded place in the pipeline, and the permits to be inside it.

    admission = stage.admit(ticket)        # synchronous: a permit, a place in the queue, or QueueFull
    async with admission as permit:        # waits for the grant
        ...                                # released on every way out

Asking is synchronous so that a caller learns its fate before it promises anything to a client, and so
that places are given in the order of asking. State: `_in_use`, `_room` and the pause; it is changed
only by `admit`, `withdraw`, `_grant` and the pause's timer, none of which awaits.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from typing import Protocol

from admission.pace import HoldingTime
from admission.pause import Pause
from admission.queue import WaitingRoom
from runtime.errors import QueueFull


class Ticket(Protocol):
    @property
    def order(self) -> float:
        """Sort key: smaller is let in first. See `admission.order`."""
        ...


@dataclass(frozen=True, slots=True)
class StageStats:
    """One reading of a stage. At every reading `admitted == released + in_use`."""

    name: str
    capacity: int
    in_use: int
    waiting: int
    max_waiting: int | None
    oldest_wait_s: float
    admitted: int
    released: int
    refused: dict[str, int]  #: by reason
    mean_hold_s: float | None


class Permit:
    """The right to be inside a stage. `held` is true from the grant until it is given back."""

    __slots__ = ("held", "stage")

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.held = True

    def __repr__(self) -> str:
        return f"<Permit {self.stage} {'held' if self.held else 'released'}>"


class Admission:
    """One asking: waits in the room, then holds a permit, then is over. Used as a context manager."""

    __slots__ = ("_granted", "_stage", "_told", "asked_at", "granted_at", "permit", "rank", "ticket")

    def __init__(self, stage: Stage, ticket: Ticket, rank: tuple[float, int], now: float) -> None:
        self._stage = stage
        self._granted: asyncio.Future[None] | None = None
        self._told = 0
        self.ticket = ticket
        self.rank = rank
        self.asked_at = now
        self.granted_at = 0.0
        self.permit: Permit | None = None

    @property
    def position(self) -> int:
        """1 is next; 0 once granted."""
        return 0 if self.permit else self._stage.position(self)

    def told(self, position: int) -> int:
        """`position` as it is told: it only falls. 0, which is none, is told as it is."""
        if position:
            self._told = position = min(position, self._told or position)
        return position

    async def __aenter__(self) -> Permit:
        if self.permit is None:
            self._granted = asyncio.get_running_loop().create_future()
            try:
                await self._granted
            except BaseException:
                # The grant may have come in the same turn as the cancel: give it back either way.
                self.withdraw()
                raise
        assert self.permit is not None
        return self.permit

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.withdraw()

    def withdraw(self) -> None:
        """Give back the place or the permit. Idempotent, and right at any moment of the admission."""
        self._stage.withdraw(self)

    def reorder(self) -> None:
        """The ticket's order has changed: the place in the queue follows."""
        self._stage.reorder(self)

    def grant(self, now: float) -> None:
        """Called by the stage alone."""
        self.permit = Permit(self._stage.name)
        self.granted_at = now
        if self._granted is not None and not self._granted.done():
            self._granted.set_result(None)


class Stage:
    """`capacity` permits, and at most `max_waiting` who wait for one (None: bounded elsewhere)."""

    def __init__(
        self,
        name: str,
        capacity: int,
        max_waiting: int | None = None,
        on_wait: Callable[[float], None] | None = None,
    ) -> None:
        self.name = name
        self.capacity = capacity
        self.max_waiting = max_waiting
        self._on_wait = on_wait
        self._in_use = 0
        self._room: WaitingRoom[Admission] = WaitingRoom()
        self._pause = Pause(capacity, self._grant)
        self._numbers = count()
        self._admitted = self._released = 0
        self._refused: Counter[str] = Counter()
        self._holding = HoldingTime()

    def __repr__(self) -> str:
        return f"<Stage {self.name} [{self._in_use}/{self.capacity} in use, {len(self._room)} waiting]>"

    def admit(self, ticket: Ticket) -> Admission:
        """Take a permit, or a place in the queue. Raises QueueFull, and then nothing stays behind."""
        now = asyncio.get_running_loop().time()
        admission = Admission(self, ticket, (ticket.order, next(self._numbers)), now)
        self._room.add(admission)
        self._grant()
        if admission.permit is None and self.max_waiting is not None and len(self._room) > self.max_waiting:
            self._room.discard(admission)
            self.refuse(QueueFull.code)
            raise QueueFull(
                f"The {self.name} queue is full; try again later.", retry_after=self.predicted_wait(0)
            )
        return admission

    def withdraw(self, admission: Admission) -> None:
        """See `Admission.withdraw`."""
        permit = admission.permit
        if permit is None:
            self._room.discard(admission)
        elif permit.held:
            permit.held = False
            self._in_use -= 1
            self._released += 1
            now = asyncio.get_running_loop().time()
            self._holding.learn(now - admission.granted_at, now)
            self._grant()

    def reorder(self, admission: Admission) -> None:
        """The ticket's order has changed: its place in the queue follows."""
        self._room.move(admission, (admission.ticket.order, admission.rank[1]))

    def refuse(self, reason: str) -> None:
        """Count a refusal; also one that was decided by somebody else on this stage's account."""
        self._refused[reason] += 1

    def pause(self, seconds: float) -> None:
        """Grant nothing for so long, then restart gradually: a herd after a 429 earns the next 429."""
        self._pause.begin(seconds)

    def position(self, admission: Admission) -> int:
        return self._room.ahead_of(admission) + 1

    @property
    def full(self) -> bool:
        """Would `admit` refuse now?"""
        crowded = self.max_waiting is not None and len(self._room) >= self.max_waiting
        return crowded and self._in_use >= self.capacity

    @property
    def measured(self) -> bool:
        """Has anybody left it lately? Without that no wait can be foretold."""
        return self._holding.mean(asyncio.get_running_loop().time()) is not None

    def predicted_wait(self, ahead: int | None = None) -> float:
        """Seconds until one who asks now, with `ahead` others before it (None: the whole queue), gets in.

        From the mean holding time; 0 with a permit free or nothing measured lately.
        """
        waiting = len(self._room) if ahead is None else ahead
        pause = self._pause.remaining()
        mean = self._holding.mean(asyncio.get_running_loop().time())
        if mean is None or self._in_use + waiting < self.capacity:
            return pause
        return pause + (waiting + 1) * mean / self.capacity

    def stats(self) -> StageStats:
        now = asyncio.get_running_loop().time()
        oldest = min((admission.asked_at for admission in self._room), default=now)
        return StageStats(
            name=self.name,
            capacity=self.capacity,
            in_use=self._in_use,
            waiting=len(self._room),
            max_waiting=self.max_waiting,
            oldest_wait_s=now - oldest,
            admitted=self._admitted,
            released=self._released,
            refused=dict(self._refused),
            mean_hold_s=self._holding.mean(now),
        )

    def load(self) -> int:
        """How many permits are held, by whomever they are shared with, as far as it is known here."""
        return self._in_use

    def _grant(self) -> None:
        while self._room and self._in_use < self.capacity and self._pause.allows():
            self._granted(self._room.pop())

    def _granted(self, admission: Admission) -> None:
        """`admission`, out of the room, has its permit."""
        now = asyncio.get_running_loop().time()
        self._in_use += 1
        self._admitted += 1
        admission.grant(now)
        if self._on_wait is not None:
            self._on_wait(now - admission.asked_at)
