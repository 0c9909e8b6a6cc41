"""A stage whose permits several processes share: the same `admit`, granted by leases that all can see.

`admit` and `withdraw` only note what has changed; one loop per stage tells it, all changes of a turn in one
round trip, and hears who is let in. Grants are pushed as well; a beat repeats all, so a lost push costs
a beat. Without the leases this process lets in its share of the capacity by itself, in its own order.

Counting: `in_use`, `admitted` and `released` are this process's own. A lease that lapsed while its holder was
frozen is asserted again when it wakes: nothing was reclaimed. What a dead process held counts as reclaimed
by whoever reports for it, which it cannot itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from admission.leasing import Leases, LeasesUnavailable, Standing, Waiting
from admission.stage import Admission, Stage, Ticket
from runtime.supervisor import Supervisor

MAX_BEAT_S: Final = 1.0
_FAR_MS: Final = 10**9


class SharedStage(Stage):
    """`capacity` is that of all processes together; `processes` is how many there are, as last known.

    State beside a stage's own: which waiting tickets the leases know (`_told`) or not (`_untold`), which of
    those held they know (`_known`), what is to be told (`_let_go`, `_moved`), and how many are before each
    (`_ahead`).
    """

    def __init__(
        self,
        name: str,
        capacity: int,
        leases: Leases,
        *,
        lease_s: float,
        processes: Callable[[], int],
        supervisor: Supervisor,
        on_wait: Callable[[float], None] | None = None,
    ) -> None:
        super().__init__(name, capacity, None, on_wait)
        self._leases = leases
        self._processes = processes
        self._supervisor = supervisor
        self._beat_s = min(MAX_BEAT_S, lease_s / 8)
        self._waiting: dict[int, Admission] = {}
        self._held: dict[int, Admission] = {}
        self._told: set[int] = set()
        self._untold: set[int] = set()
        self._known: set[int] = set()
        self._moved: set[int] = set()
        self._let_go: set[int] = set()
        self._ahead: dict[int, int] = {}
        self._elsewhere = 0  #: who wait in other processes
        self._held_by_all = 0
        self._restart = False
        self._stir = asyncio.Event()
        self._beat_at = 0.0
        leases.on_grant(self._pushed)
        leases.on_change(self._changed)

    # -- asking -------------------------------------------------------------------------------
    def admit(self, ticket: Ticket) -> Admission:
        admission = super().admit(ticket)
        if admission.permit is None:
            self._waiting[admission.rank[1]] = admission
            self._untold.add(admission.rank[1])
            self._stir.set()
        return admission

    def withdraw(self, admission: Admission) -> None:
        number = admission.rank[1]
        known = number in self._told or number in self._known
        self._waiting.pop(number, None)
        self._held.pop(number, None)
        self._known.discard(number)
        self._forget(number)
        if known:
            self._let_go.add(number)
            self._stir.set()
        super().withdraw(admission)

    def reorder(self, admission: Admission) -> None:
        super().reorder(admission)
        if admission.rank[1] in self._told:
            self._moved.add(admission.rank[1])
            self._stir.set()

    def pause(self, seconds: float) -> None:
        super().pause(seconds)
        self._supervisor.spawn(f"limits:{self.name}:pause", self._tell_pause(seconds))

    def position(self, admission: Admission) -> int:
        """Among the waiting of all processes; 0 until that is known: a place of our own alone might grow."""
        ahead = self._ahead.get(admission.rank[1])
        if ahead is None:
            return 0 if self._leases.up else super().position(admission)
        return ahead + 1

    def predicted_wait(self, ahead: int | None = None) -> float:
        return super().predicted_wait(len(self._room) + self._elsewhere if ahead is None else ahead)

    def load(self) -> int:
        """Told at each beat to whoever holds or waits; who does neither is not asked."""
        if not self._leases.up or not (self._held or self._waiting):
            return self._in_use
        return max(self._in_use, self._held_by_all)

    # -- letting in ---------------------------------------------------------------------------
    def _grant(self) -> None:
        """By ourselves only while nobody counts for all."""
        if self._leases.up:
            return
        share = max(1, self.capacity // max(1, self._processes()))
        while self._room and self._in_use < share and self._pause.allows():
            self._let_in(self._room.pop())

    def _let_in(self, admission: Admission) -> None:
        number = admission.rank[1]
        self._waiting.pop(number, None)
        self._held[number] = admission
        if number in self._told:
            self._known.add(number)
        self._forget(number)
        self._granted(admission)

    def _pushed(self, number: int) -> None:
        admission = self._waiting.get(number)
        if admission is not None:  # else it has left, and its release is on its way
            self._room.discard(admission)
            self._let_in(admission)

    def _forget(self, number: int) -> None:
        self._told.discard(number)
        self._untold.discard(number)
        self._moved.discard(number)
        self._ahead.pop(number, None)

    def _changed(self) -> None:
        """The leases are away, or back."""
        self._restart = self._leases.up
        self._beat_at = 0.0
        self._stir.set()
        self._grant()

    # -- telling ------------------------------------------------------------------------------
    async def run(self) -> None:
        """Tell and hear for ever; an owned loop."""
        loop = asyncio.get_running_loop()
        wait_s = self._beat_s
        while True:
            try:
                async with asyncio.timeout(wait_s):
                    await self._stir.wait()
            except TimeoutError:
                pass
            self._stir.clear()
            wait_s = self._beat_s
            if not self._leases.up:
                self._grant()
                continue
            wait_ms = await self._sync(full=loop.time() >= self._beat_at)
            if wait_ms and self._waiting:
                wait_s = min(wait_s, wait_ms / 1000)
                self._beat_at = min(self._beat_at, loop.time() + wait_s)

    async def _sync(self, *, full: bool) -> int:
        """Tell what has changed, or everything; the ms until a paused stage may let in again."""
        loop = asyncio.get_running_loop()
        released, self._let_go = self._let_go, set()
        restart, self._restart = self._restart, False
        full = full or restart
        held = list(self._held) if full else []
        numbers = self._waiting if full else self._untold | self._moved
        waiting = [
            Waiting(number, self._order_ms(self._waiting[number]), number in self._moved)
            for number in numbers
        ]
        self._known.update(held)
        if not (released or held or waiting):
            self._beat_at = loop.time() + self._beat_s
            return 0
        self._told.update(one.ticket for one in waiting)
        self._untold.difference_update(one.ticket for one in waiting)
        self._moved.difference_update(one.ticket for one in waiting)
        try:
            standing = await self._leases.sync(list(released), held, waiting, restart=restart)
        except LeasesUnavailable:
            self._let_go |= released
            self._moved |= {one.ticket for one in waiting if one.moved} & self._waiting.keys()
            self._restart = self._restart or restart
            self._beat_at = 0.0
            self._grant()
            return 0
        if full:
            self._beat_at = loop.time() + self._beat_s
        self._apply(waiting, standing)
        return standing.wait_ms

    def _apply(self, asked: list[Waiting], standing: Standing) -> None:
        for one, ahead in zip(asked, standing.ahead, strict=True):
            if ahead < 0:
                self._pushed(one.ticket)
            elif one.ticket in self._waiting:
                self._ahead[one.ticket] = min(ahead, self._ahead.get(one.ticket, ahead))
        self._elsewhere = max(0, standing.waiting - len(self._waiting))
        self._held_by_all = standing.held

    def _order_ms(self, admission: Admission) -> int:
        ms = (admission.rank[0] - asyncio.get_running_loop().time()) * 1000
        return round(min(max(ms, -_FAR_MS), _FAR_MS))

    async def _tell_pause(self, seconds: float) -> None:
        try:
            await self._leases.pause(seconds)
        except LeasesUnavailable:
            return  # each process that sees a 429 pauses itself
