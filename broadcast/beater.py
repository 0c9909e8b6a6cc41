"""The beat: everything that this process leads and follows, said again to Redis, and its answer acted on.

It is what makes lost hints harmless, keeps leases alive, and notices a Redis that has lost its memory.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from broadcast.leading import Leading
from broadcast.mirror import Mirror
from broadcast.outcome import Outcome
from cache.errors import StoreError
from cache.flights import by_partition
from cache.processes import Processes
from cache.views import Pulse
from runtime.errors import LeaderLost

if TYPE_CHECKING:
    from broadcast.relay import Relay

MAX_BEAT_S = 1.5
#: A follower that has heard nothing of Redis for so long ends, and may ask again.
STARVED_S = 15.0
#: Progress and not one hint, in so many beats in a row: pushes no longer arrive.
DEAF_BEATS = 2


def beat_s(lease_s: float) -> float:
    """Often enough that two beats may be lost within a lease."""
    return min(MAX_BEAT_S, lease_s / 8)


def guard_s(lease_s: float) -> float:
    """After a loss of memory: until every living leader has had a beat to say that it leads."""
    return beat_s(lease_s) + 0.5


class Beater:
    """`run` is a loop that the Supervisor owns."""

    def __init__(self, relay: Relay, processes: Processes, lease_s: float) -> None:
        self._relay = relay
        self._processes = processes
        self._beat_s = beat_s(lease_s)
        self._guard_s = guard_s(lease_s)
        self._hurry = asyncio.Event()
        self._deaf = 0

    def hurry(self) -> None:
        """Something has happened to Redis: beat now."""
        self._hurry.set()

    async def run(self) -> None:
        while True:
            self._hurry.clear()
            try:
                await self._processes.beat()
                await self.beat()
            except StoreError:
                self._starve()
            try:
                async with asyncio.timeout(self._beat_s):
                    await self._hurry.wait()
            except TimeoutError:
                continue

    async def beat(self, only: list[Leading] | None = None) -> None:
        """One round trip per partition in use. Raises StoreError."""
        relay = self._relay
        leads = [lead for lead in (only or list(relay.leads.values())) if lead.registered]
        mirrors = [] if only else [mirror for mirror in relay.mirrors.values() if not mirror.over]
        said = {lead.key: f"L{lead.epoch}" for lead in leads}
        said |= {mirror.key: f"F{mirror.broadcast.log.epoch}|{mirror.broadcast.stake}" for mirror in mirrors}
        if only is None:
            for lead in list(relay.leads.values()):
                lead.touch()  # what is not known there yet, or has not ended there
        heard, failed = 0, False
        async with asyncio.TaskGroup() as group:
            asked_at = asyncio.get_running_loop().time()
            tasks = [
                (keys, group.create_task(self._one(number, [(key, said[key]) for key in keys])))
                for number, keys in by_partition(list(said)).items()
            ]
        for keys, task in tasks:
            pulses = task.result()
            failed = failed or pulses is None
            for key, pulse in zip(keys, pulses or (), strict=False):
                heard += self._apply(key, pulse, asked_at)
            await asyncio.sleep(0)  # thousands of broadcasts are no reason to keep everybody waiting
        if failed:
            raise StoreError("beat")
        if only is None:
            self._listen(unannounced=heard)

    async def _one(self, number: int, flights: list[tuple[str, str]]) -> list[Pulse] | None:
        try:
            return await self._relay.flights.beat(number, flights)
        except StoreError:
            return None

    def _apply(self, key: str, pulse: Pulse, asked_at: float) -> bool:
        """Whether a mirror has progress that no hint has told."""
        relay = self._relay
        if (lead := relay.leads.get(key)) is not None:
            lead.beaten(pulse, asked_at, relay.flights.link.proc)
        elif (mirror := relay.mirrors.get(key)) is not None:
            news = mirror.beaten(pulse)
            self._orphan(mirror)
            return news
        return False

    def _orphan(self, mirror: Mirror) -> None:
        since = mirror.orphan_since
        if since is None or mirror.taking_over or mirror.over:
            return
        if asyncio.get_running_loop().time() - since > self._guard_s + 2 * self._beat_s:
            self._relay.still_wanted(mirror)

    def _listen(self, *, unannounced: int) -> None:
        hints, self._relay.hints = self._relay.hints, 0
        self._deaf = self._deaf + 1 if unannounced and not hints else 0
        if self._deaf >= DEAF_BEATS:
            self._deaf = 0
            self._relay.flights.link.renew_inbox()

    def _starve(self) -> None:
        if self._relay.flights.link.down_for > STARVED_S:
            for mirror in list(self._relay.mirrors.values()):
                mirror.broadcast.conclude(Outcome.FAILED, LeaderLost())
