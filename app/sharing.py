"""What a process builds beside the rest when it is not alone: its link to Redis and all behind it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from admission import Stage
from admission.shared import SharedStage
from broadcast.beater import beat_s, guard_s
from broadcast.broadcast import Broadcast
from broadcast.claim import ClaimTimers
from broadcast.manager import BroadcastManager
from broadcast.relay import Relay
from broadcast.sealing import Sealing
from cache.errors import StoreError
from cache.flights import Asking, Joined, SharedFlights
from cache.leases import RedisLeases
from cache.link import Link
from cache.processes import Processes
from cache.requests import SharedRequests
from chatbot.guests import Guests
from chatbot.known import KnownRequests
from chatbot.records import Records
from chatbot.shared import SharedChatManager
from config.settings import Settings
from processing.flights import Flights
from runtime.supervisor import Supervisor
from upstream.chunk import Chunk

if TYPE_CHECKING:
    from app.gateway import Addresses

log = logging.getLogger("refrain.sharing")

#: How long a start waits for Redis before it serves without.
START_S = 1.0
#: At the end: for what Redis has not been told yet.
DRAIN_S = 1.0


class Sharing:
    """Built in two steps, since the relay and the broadcasts know each other."""

    relay: Relay
    known: KnownRequests

    def __init__(
        self, s: Settings, addresses: Addresses, supervisor: Supervisor, on_error: Callable[[str], None]
    ) -> None:
        self._settings = s
        self._supervisor = supervisor
        self._stages: list[SharedStage] = []
        self.link = Link(addresses.redis, addresses.proc, on_error=on_error)
        self.processes = Processes(self.link, s.lease_s)
        self.flights = SharedFlights(self.link, lease_s=s.lease_s, guard_s=guard_s(s.lease_s))

    def stage(self, name: str, capacity: int, on_wait: Callable[[float], None]) -> Stage:
        """An LLM stage whose capacity is that of all processes together."""
        lease_s = self._settings.lease_s
        stage = SharedStage(
            name,
            capacity,
            RedisLeases(self.link, name, capacity, lease_s),
            lease_s=lease_s,
            processes=lambda: self.processes.count,
            supervisor=self._supervisor,
            on_wait=on_wait,
        )
        self._stages.append(stage)
        return stage

    def build(self, table: Flights[Broadcast[Chunk]], sealing: Sealing) -> None:
        s = self._settings
        self.relay = Relay(
            self.flights,
            table,
            self.processes,
            sealing,
            self._supervisor,
            lease_s=s.lease_s,
            durable=s.durable,
        )

    def meet(
        self,
        broadcasts: BroadcastManager,
        table: Flights[Broadcast[Chunk]],
        records: Records,
        manager: SharedChatManager,
        timers: ClaimTimers,
    ) -> None:
        s, requests = self._settings, SharedRequests(self.link)
        self.relay.manager = broadcasts
        running_s = (
            s.queue_timeout_s
            + s.prepare_timeout_s
            + s.subscribe_timeout_s
            + s.slot_timeout_s
            + s.stream_timeout_s
        )
        known = KnownRequests(
            requests,
            self.processes,
            self.relay,
            records,
            self._supervisor,
            running_s=running_s,
            retention_s=s.retention_s,
        )
        guests = Guests(
            requests,
            known,
            self.relay,
            broadcasts,
            table,
            records,
            self._supervisor,
            timers,
            settle_s=guard_s(s.lease_s) + 2 * beat_s(s.lease_s),
        )
        manager.meet(self.relay, requests, known, guests)
        self.known = known
        self.last_words = guests.endings.last_words

    # -- Claims, for the fast lane -------------------------------------------------------------
    @property
    def up(self) -> bool:
        return self.link.up

    async def join(self, asking: Asking, timeout_s: float) -> Joined:
        return await self.relay.flights.join(asking, timeout_s)

    def unclaimed(self, key: str, joined: Joined | None) -> None:
        self.relay.errands.unclaimed(key, joined)

    # -- lifespan -----------------------------------------------------------------------------
    async def start(self) -> None:
        """Link first, then the fences: where Redis has none, whoever leads elsewhere gets time to say so."""
        self.link.start(self._supervisor)
        self._supervisor.own("relay:beat", self.relay.beater.run())
        for stage in self._stages:
            self._supervisor.own(f"limits:{stage.name}", stage.run())
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(START_S):
                await self.link.until_up()
            await asyncio.sleep(await self.flights.fence())

    async def drain(self) -> None:
        """What ended last is told."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await self._supervisor.until_none("relay:", "known:")

    async def close(self) -> None:
        await self.link.close()
