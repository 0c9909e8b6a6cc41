"""Leases that answer what the test says, and a shared stage that tells them everything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from admission.leasing import LeasesUnavailable, Standing, Waiting
from admission.shared import SharedStage
from runtime.supervisor import Supervisor
from tests.fakes.leases import BEAT_S, LEASE_S

TRIP_S = 0.01


@dataclass
class Told:
    """One telling. `waiting` is of (ticket, moved)."""

    at: float
    released: list[int]
    held: list[int]
    waiting: list[tuple[int, bool]]
    restart: bool
    orders: list[int]


@dataclass
class Played:
    """Leases that answer what the test says: nobody is let in but `winners`, and `fails` calls are lost."""

    up: bool = True
    fails: int = 0
    wait_ms: int = 0
    others: int = 0  #: who wait elsewhere
    winners: set[int] = field(default_factory=set)
    told: list[Told] = field(default_factory=list)
    on_call: Callable[[], None] = lambda: None

    async def sync(
        self, released: Sequence[int], held: Sequence[int], waiting: Sequence[Waiting], *, restart: bool
    ) -> Standing:
        now = asyncio.get_running_loop().time()
        said = [(one.ticket, one.moved) for one in waiting]
        orders = [one.order_ms for one in waiting]
        self.told.append(Told(now, list(released), list(held), said, restart, orders))
        await asyncio.sleep(TRIP_S)
        self.on_call()
        if self.fails:
            self.fails -= 1
            raise LeasesUnavailable("sync")
        ahead = [-1 if one.ticket in self.winners else one.ticket for one in waiting]
        left = sum(place >= 0 for place in ahead)
        return Standing(self.wait_ms, self.others + left, 0, ahead)

    async def pause(self, seconds: float) -> None:
        raise LeasesUnavailable("pause")

    def on_grant(self, act: Callable[[int], None]) -> None:
        self.grant = act

    def on_change(self, act: Callable[[], None]) -> None:
        self.change = act

    def turn(self, *, up: bool) -> None:
        self.up = up
        self.change()


@asynccontextmanager
async def played(
    capacity: int = 9, processes: list[int] | None = None
) -> AsyncIterator[tuple[SharedStage, Played]]:
    """The stage's loop must live to the end: an error of it is a bug of the stage."""
    supervisor, leases, counts = Supervisor(), Played(), processes or [1]
    stage = SharedStage(
        "s", capacity, leases, lease_s=LEASE_S, processes=lambda: counts[0], supervisor=supervisor
    )
    supervisor.own("limits", stage.run())
    try:
        yield stage, leases
        await asyncio.sleep(2 * BEAT_S)
        assert supervisor.healthy
    finally:
        await supervisor.close()
