"""A mirror whose relay is played: what it pulls is what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from broadcast.broadcast import Broadcast
from broadcast.claim import Claim
from broadcast.log import Log
from broadcast.mirror import Mirror
from cache.errors import StoreDown
from tests.fakes.claims import TIMERS, RecordingDriver, Ticket
from tests.fakes.flights import FakeFlights
from upstream.chunk import Chunk


class MirrorScene:
    """A mirror of epoch 5 that nobody has fed yet. `gone` counts how often its leader was found gone."""

    def __init__(self) -> None:
        self.flights = FakeFlights()
        self.dead: set[str] = set()
        self.gone = 0
        self.wanted = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.broadcast: Broadcast[Chunk] = Broadcast("key", Log(5), RecordingDriver())
        self.broadcast.remote = True
        owner = _Owner(self)
        self.mirror = Mirror(self.broadcast, owner, body=None, run=self._run)

    def _run(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        async def quietly() -> None:
            try:
                await work()
            except StoreDown:
                return

        self.tasks.add(asyncio.get_running_loop().create_task(quietly(), name=name))

    def join(self, *, attached: bool = True) -> Claim:
        claim = Claim(Ticket("c", 0.0), self.broadcast, TIMERS, attached=attached, on_end=lambda claim: None)
        self.broadcast.join(claim)
        return claim

    @property
    def texts(self) -> list[str]:
        return [chunk.text for chunk in self.broadcast.log.events]


class _Owner:
    def __init__(self, scene: MirrorScene) -> None:
        self._scene = scene
        self.flights = scene.flights.real

    def leader_gone(self, mirror: Mirror) -> None:
        self._scene.gone += 1

    def still_wanted(self, mirror: Mirror) -> None:
        self._scene.wanted += 1

    def is_dead(self, proc: str) -> bool:
        return proc in self._scene.dead
