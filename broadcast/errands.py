"""Small things that are told to Redis and waited for by nobody: a lease says the same a little later."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Container, Iterator
from contextlib import contextmanager

from cache.errors import StoreError
from cache.flights import Joined, Led, SharedFlights
from cache.views import View
from runtime.supervisor import Supervisor


class Errands:
    """`leads` and `mirrors`: the keys that are made and followed here."""

    def __init__(
        self,
        flights: SharedFlights,
        supervisor: Supervisor,
        leads: Container[str],
        mirrors: Container[str],
    ) -> None:
        self._flights = flights
        self._supervisor = supervisor
        self._leads = leads
        self._mirrors = mirrors
        self._asking: Counter[str] = Counter()
        self._unleft: set[str] = set()

    def leave(self, key: str, *, dismissed: bool = False) -> None:
        """Nobody here wants it any more. `dismissed`: the last one has said so."""
        self.run("relay:leave", lambda: self._leave(key, dismissed=dismissed))

    def abdicate(self, key: str, epoch: int) -> None:
        """Whoever follows may lead at once."""
        self.run("relay:abdicate", lambda: self._abdicate(key, epoch))

    def unclaimed(self, key: str, joined: Joined | None) -> None:
        """Whoever asked for it has left while Redis answered, or did not answer in time: None."""
        if isinstance(joined, Led) and key not in self._leads:
            self.abdicate(key, joined.epoch)
        elif (joined is None or isinstance(joined, View)) and key not in self._mirrors:
            self.leave(key)

    @contextmanager
    def asking(self, key: str) -> Iterator[None]:
        """Around asking to follow and following: what is left meanwhile must not undo it."""
        self._asking[key] += 1
        try:
            yield
        finally:
            self._asking[key] -= 1
            if not self._asking[key]:
                del self._asking[key]
                if key in self._unleft:
                    self._unleft.discard(key)
                    self.leave(key)

    def run(self, name: str, work: Callable[[], Awaitable[object]]) -> asyncio.Task[None]:
        """A task for it. Redis may fail: the next beat, a lease or the link's return makes it good."""
        return self._supervisor.spawn(name, self._run(work))

    async def _run(self, work: Callable[[], Awaitable[object]]) -> None:
        try:
            await work()
        except StoreError:
            return

    async def _abdicate(self, key: str, epoch: int) -> None:
        if key not in self._leads:
            await self._flights.abdicate(key, epoch)

    async def _leave(self, key: str, *, dismissed: bool) -> None:
        if self._asking[key]:
            self._unleft.add(key)
        elif key not in self._mirrors:
            await self._flights.stake(key, "", dismissed=dismissed)
