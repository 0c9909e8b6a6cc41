"""A pool of slots in memory, and what each process sees of it: the port of a shared stage, without Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from admission import Admission
from admission.leasing import LeasesUnavailable, Standing, Waiting
from admission.shared import SharedStage
from runtime.supervisor import Supervisor
from tests.fakes.invariants import assert_free

DELAY_S = 0.001
LEASE_S = 8.0
BEAT_S = 1.0  #: of a stage with that lease


class Bank:
    """`capacity` slots for all. `holders` and `queue` (ticket → order) have tickets as (member, number)."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.holders: set[tuple[int, int]] = set()
        self.queue: dict[tuple[int, int], float] = {}
        self.members: list[FakeLeases] = []
        self.pauses: list[float] = []
        self.most = 0

    def promote(self) -> None:
        while self.queue and len(self.holders) < self.capacity:
            ticket = min(self.queue, key=lambda one: self.queue[one])
            del self.queue[ticket]
            self.holders.add(ticket)
            self.members[ticket[0]].push(ticket[1])
        self.most = max(self.most, len(self.holders))

    def bury(self, member: int) -> None:
        """What a dead process held is given on."""
        self.holders = {ticket for ticket in self.holders if ticket[0] != member}
        self.queue = {ticket: order for ticket, order in self.queue.items() if ticket[0] != member}
        self.promote()


class FakeLeases:
    """`deaf`: pushes to it are lost. `fails`: so many calls find nobody. `loses_reply`: done, not told."""

    def __init__(self, bank: Bank) -> None:
        self.bank = bank
        self.number = len(bank.members)
        bank.members.append(self)
        self.up = True
        self.deaf = False
        self.fails = 0
        self.loses_reply = 0
        self.synced: list[tuple[list[int], list[int], list[Waiting], bool]] = []
        self._grant: Callable[[int], None] = lambda ticket: None
        self._change: Callable[[], None] = lambda: None

    def turn(self, *, up: bool) -> None:
        """The link goes, or comes back."""
        self.up = up
        self._change()

    def push(self, ticket: int) -> None:
        if not self.deaf and self.up:
            asyncio.get_running_loop().call_soon(self._grant, ticket)

    async def sync(
        self, released: Sequence[int], held: Sequence[int], waiting: Sequence[Waiting], *, restart: bool
    ) -> Standing:
        self.synced.append((list(released), list(held), list(waiting), restart))
        await asyncio.sleep(DELAY_S)
        if self.fails or not self.up:
            self.fails = max(0, self.fails - 1)
            raise LeasesUnavailable("sync")
        self._state(released, held, waiting)
        self.bank.promote()
        standing = self._standing(waiting)
        await asyncio.sleep(DELAY_S)
        if self.loses_reply:
            self.loses_reply -= 1
            raise LeasesUnavailable("no reply")
        return standing

    def _state(self, released: Sequence[int], held: Sequence[int], waiting: Sequence[Waiting]) -> None:
        now = asyncio.get_running_loop().time() * 1000
        bank = self.bank
        for ticket in released:
            bank.holders.discard((self.number, ticket))
            bank.queue.pop((self.number, ticket), None)
        for ticket in held:
            bank.queue.pop((self.number, ticket), None)
            bank.holders.add((self.number, ticket))
        for one in waiting:
            name = (self.number, one.ticket)
            if name not in bank.holders and (one.moved or name not in bank.queue):
                bank.queue[name] = now + one.order_ms

    def _standing(self, waiting: Sequence[Waiting]) -> Standing:
        ranked = sorted(self.bank.queue, key=lambda one: self.bank.queue[one])
        ahead = [
            -1 if (self.number, one.ticket) in self.bank.holders else ranked.index((self.number, one.ticket))
            for one in waiting
        ]
        return Standing(0, len(ranked), len(self.bank.holders), ahead)

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(DELAY_S)
        if not self.up:
            raise LeasesUnavailable("pause")
        self.bank.pauses.append(seconds)

    def on_grant(self, act: Callable[[int], None]) -> None:
        self._grant = act

    def on_change(self, act: Callable[[], None]) -> None:
        self._change = act


@dataclass
class Guest:
    order: float = 0.0


@dataclass
class Hall:
    bank: Bank
    stages: list[SharedStage]
    leases: list[FakeLeases]
    supervisor: Supervisor

    async def rest(self) -> None:
        """After a beat and a bit everything that is to be told has been told."""
        await asyncio.sleep(3 * BEAT_S)
        for stage in self.stages:
            assert_free(stage)
        assert (self.bank.holders, self.bank.queue) == (set(), {})


@asynccontextmanager
async def hall(capacity: int, count: int = 1) -> AsyncIterator[Hall]:
    """So many stages of one pool, in as many processes."""
    bank, supervisor = Bank(capacity), Supervisor()
    leases = [FakeLeases(bank) for _ in range(count)]
    stages = [
        SharedStage("s", capacity, one, lease_s=LEASE_S, processes=lambda: count, supervisor=supervisor)
        for one in leases
    ]
    for stage in stages:
        supervisor.own("limits", stage.run())
    try:
        yield Hall(bank, stages, leases, supervisor)
    finally:
        assert supervisor.healthy
        await supervisor.close()


async def granted(*admissions: Admission) -> None:
    """Some beats at most."""
    async with asyncio.timeout(5 * BEAT_S):
        for admission in admissions:
            await admission.__aenter__()
