"""Join or lead: the table of what is being answered right now, by sharing key.

State: `_flights`, `_looking` and `_landed`. No method awaits, so look-up and claim are one step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

F = TypeVar("F")


class Flights(Generic[F]):
    """At most one flight per key. A flight leaves the table when the cache has its answer."""

    def __init__(self) -> None:
        self._flights: dict[str, F] = {}
        self._looking: dict[str, int] = {}  # key → how many are asking the cache for it
        self._landed: dict[str, F] = {}  # left already, but somebody was still looking

    def __len__(self) -> int:
        return len(self._flights)

    def __repr__(self) -> str:
        return f"<Flights [{len(self._flights)} keys, {len(self._looking)} looked up]>"

    def find(self, key: str) -> F | None:
        return self._flights.get(key)

    def claim(self, key: str, flight: F) -> None:
        """Lead `key`. A flight that cannot be joined any more is replaced."""
        self._flights[key] = flight

    def leave(self, key: str, flight: F) -> None:
        """Its answer failed: nobody may find it, from now on."""
        if self._flights.get(key) is flight:
            del self._flights[key]

    def land(self, key: str, flight: F) -> None:
        """Its answer is in the cache: the flight leaves as soon as nobody can have missed both.

        A look-up that was under way may have read the cache before the answer was written. It looks
        here again afterwards, and must then find the flight.
        """
        if self._flights.get(key) is not flight:
            return
        if key in self._looking:
            self._landed[key] = flight
        else:
            del self._flights[key]

    @contextmanager
    def looking(self, key: str) -> Iterator[None]:
        """Around a cache look-up and the second look in this table."""
        self._looking[key] = self._looking.get(key, 0) + 1
        try:
            yield
        finally:
            self._looking[key] -= 1
            if self._looking[key] == 0:
                del self._looking[key]
                landed = self._landed.pop(key, None)
                if landed is not None:
                    self.land(key, landed)
