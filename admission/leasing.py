"""What a shared stage asks of whatever counts for all processes: a port, implemented over Redis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


class LeasesUnavailable(Exception):
    """No answer now; what was asked may or may not have happened."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is true after a sync. `wait_ms`: until more may be let in, 0 if nothing holds them back.

    `ahead` has per waiting ticket how many are before it, -1 once it is granted.
    """

    wait_ms: int
    waiting: int
    held: int
    ahead: Sequence[int]


@dataclass(frozen=True, slots=True)
class Waiting:
    """`order_ms` from now, smaller is let in first; `moved`: it replaces what was said before."""

    ticket: int
    order_ms: int
    moved: bool = False


class Leases(Protocol):
    """One pool. Tickets are this process's own numbers. Methods raise LeasesUnavailable."""

    @property
    def up(self) -> bool: ...

    async def sync(
        self, released: Sequence[int], held: Sequence[int], waiting: Sequence[Waiting], *, restart: bool
    ) -> Standing: ...

    async def pause(self, seconds: float) -> None: ...

    def on_grant(self, act: Callable[[int], None]) -> None:
        """`act(ticket)` for each grant that is pushed; a push may be lost."""

    def on_change(self, act: Callable[[], None]) -> None:
        """`act()` when `up` has changed."""
