"""A waiting room: whoever waits for a stage, in the order in which they will be let in."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar


class Waiter(Protocol):
    """`rank` is the sort key: (order, running number). It changes only through `WaitingRoom.move`."""

    rank: tuple[float, int]


W = TypeVar("W", bound=Waiter)


def _rank(waiter: Waiter) -> tuple[float, int]:
    return waiter.rank


class WaitingRoom(Generic[W]):
    """A sorted list: O(log n) to find a place, a short memmove to enter or leave."""

    def __init__(self) -> None:
        self._waiting: list[W] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[W]:
        return iter(self._waiting)

    def add(self, waiter: W) -> None:
        insort(self._waiting, waiter, key=_rank)

    def pop(self) -> W:
        return self._waiting.pop(0)

    def discard(self, waiter: W) -> bool:
        """Take `waiter` out; False if it was not waiting."""
        index = bisect_left(self._waiting, waiter.rank, key=_rank)
        if index < len(self._waiting) and self._waiting[index] is waiter:
            del self._waiting[index]
            return True
        return False

    def move(self, waiter: W, rank: tuple[float, int]) -> None:
        """Give a waiter another rank; nothing happens to one that is not waiting."""
        if self.discard(waiter):
            waiter.rank = rank
            self.add(waiter)

    def ahead_of(self, waiter: W) -> int:
        """How many will be let in before `waiter`."""
        return bisect_left(self._waiting, waiter.rank, key=_rank)
