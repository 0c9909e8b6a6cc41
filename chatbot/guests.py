"""Requests that another process has admitted: found by id, read, resumed and cancelled here as there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from admission import Priority
from broadcast.abreast import Abreast
from broadcast.broadcast import Broadcast
from broadcast.claim import Claim, ClaimTimers
from broadcast.guest import GuestClaim
from broadcast.manager import BroadcastManager
from broadcast.relay import Relay
from cache.errors import StoreError
from cache.requests import Known, SharedRequests
from cache.views import View
from chatbot import told
from chatbot.endings import Endings, refuse_unless_cancelled
from chatbot.known import KnownRequests
from chatbot.lastword import LastWord
from chatbot.record import TIMINGS, Record, Role
from chatbot.records import Records
from chatbot.texts import Texts
from chatbot.ticket import Ticket
from processing.flights import Flights
from runtime.errors import NotFound, StateUnavailable, WorkerLost
from runtime.supervisor import Supervisor
from upstream.chunk import Chunk

#: Between two looks for what its owner is about to write.
LOOK_S: Final = 0.02
#: Its owner, if it lives, answers within so long.
OWNER_S: Final = 1.0
#: At most so long for a reader's cursor to be reached by what its maker publishes, beside a lease.
READABLE_S: Final = 2.0
#: A cancel waits for it so long: what it has ended otherwise by then it has.
CANCEL_S: Final = 1.0
#: So long its owner may take to say that it has ended, while another flight already runs under its key.
SAID_S: Final = 0.25


class Guests:
    """`settle_s`: how long Redis may take to be told again by a living owner, after it lost its memory."""

    def __init__(
        self,
        requests: SharedRequests,
        known: KnownRequests,
        relay: Relay,
        broadcasts: BroadcastManager,
        table: Flights[Broadcast[Chunk]],
        records: Records,
        supervisor: Supervisor,
        timers: ClaimTimers,
        *,
        settle_s: float,
    ) -> None:
        self._requests = requests
        self._known = known
        self._relay = relay
        self._broadcasts = broadcasts
        self._table = table
        self._records = records
        self._supervisor = supervisor
        self._timers = timers
        self._settle_s = settle_s
        self._texts = Texts(relay)
        link = relay.flights.link
        self.endings = Endings(requests, records, supervisor)
        self.abreast = Abreast(relay)
        self.last_word = LastWord(requests, relay, self.endings, supervisor, retention_ms=known.retention_ms)
        link.listen("X", self.endings.told)
        link.listen("S", self._came_elsewhere)

    # -- finding ------------------------------------------------------------------------------
    async def find(self, id: str, tenant: str) -> Record:
        """Raises NotFound, alike for foreign and unknown ids; StateUnavailable while Redis is away."""
        try:
            return await self._find(id, tenant)
        except StoreError:
            raise StateUnavailable() from None

    async def _find(self, id: str, tenant: str) -> Record:
        since = asyncio.get_running_loop().time()
        deadline = since + self._settle_s
        while True:
            known, about = await self._recall(id, tenant)
            if known.end:
                return await self._ended(id, known, about)
            with self._relay.errands.asking(about.key):
                view = await self._relay.flights.attach(about.key, "f")
                # Only now: another caller may have found it while we asked.
                if (record := self._records.peek(id)) is not None:
                    return record
                if view is not None and view.live and self._is_its_own(known, view, since):
                    broadcast = self._followed(about.key, view, tenant)
                    if broadcast is not None:
                        record = self._join(id, known, about, broadcast)
                        # What its owner told while we asked has found nobody here.
                        self.endings.look(record)
                        return record
            # Its owner is about to say how it ended, or to tell Redis again; or it is gone.
            if await self._gone(known.owner, deadline):
                await self._end_for_it(id, tenant, known, view)
            await asyncio.sleep(LOOK_S)

    def _is_its_own(self, known: Known, view: View, since: float) -> bool:
        """Is what runs under its key its flight, taken over perhaps, or one that has begun after its end?"""
        if view.epoch <= known.epoch or self._relay.is_dead(known.owner):
            return view.epoch >= known.epoch
        return asyncio.get_running_loop().time() - since > SAID_S

    async def _gone(self, owner: str, deadline: float) -> bool:
        """Is it dead? Raises StateUnavailable if it lives and does not say what it should."""
        if self._relay.is_dead(owner):
            return True
        if asyncio.get_running_loop().time() < deadline:
            return False
        if await self._relay.lives(owner):
            raise StateUnavailable()
        return True

    async def _end_for_it(self, id: str, tenant: str, known: Known, view: View | None) -> None:
        """Its owner is dead: as its flight has ended, or lost."""
        if (await self._recall(id, tenant))[0].end:
            return
        if view is not None and view.state == "completed" and view.epoch >= known.epoch:
            await self._requests.ended(id, told.hit(), self._known.retention_ms, view.epoch)
        else:
            await self._requests.ended(id, told.ended_with(WorkerLost()), self._known.retention_ms)

    async def _recall(self, id: str, tenant: str) -> tuple[Known, told.About]:
        known = await self._requests.recall(id, reading=True) if id.isascii() and len(id) == 39 else None
        try:
            about = told.read_about(known.about) if known is not None else None
        except msgspec.MsgspecError:
            about = None
        if known is None or about is None or about.tenant != tenant:
            raise NotFound("There is no such chat.")
        return known, about

    # -- one that runs ------------------------------------------------------------------------
    def _followed(self, key: str, view: View, tenant: str) -> Broadcast[Chunk] | None:
        """What runs here or elsewhere; None if it is said to run here, and does not."""
        if view.owner == self._relay.flights.link.proc:
            # Never a mirror of our own: its end may be on its way to Redis.
            leading = self._relay.leads.get(key)
            return leading.broadcast if leading is not None and leading.epoch == view.epoch else None
        mirror = self._relay.mirrors.get(key)
        if mirror is not None and not mirror.over:
            mirror.saw(view)  # never a second one: nothing would feed the first any more
            return mirror.broadcast if mirror.broadcast.running else None
        broadcast = self._table.find(key)
        if broadcast is None or not broadcast.running or broadcast.log.epoch < view.epoch:
            broadcast = self._broadcasts.follow(key, view.epoch, None, float("inf"), tenant)
            self._relay.mirror(broadcast, view, None)
        return broadcast

    def _join(self, id: str, known: Known, about: told.About, broadcast: Broadcast[Chunk]) -> Record:
        record = self._record(id, known, about)
        claim = GuestClaim(
            record.ticket,
            broadcast,
            self._timers,
            on_end=lambda claim: self._guest_ended(record),
            on_left=lambda: self._records.drop(id),
            on_held=lambda: self.last_word.awaited(record),
        )
        record.claim = claim
        self._records.add(record)
        broadcast.join(claim)
        return record

    def _guest_ended(self, record: Record) -> None:
        record.freeze()
        ended = record.claim.ended
        if ended is not None and ended.error is not None and ended.error.code == WorkerLost.code:
            self._supervisor.spawn("guest:lost", self._tell_lost(record, told.ended_with(ended.error)))
            return
        self._records.drop(record.ticket.id)

    async def _tell_lost(self, record: Record, end: bytes) -> None:
        """Kept until all know, or whoever asks in between would find it running."""
        try:
            await self._requests.ended(record.ticket.id, end, self._known.retention_ms)
        except StoreError:
            return
        finally:
            self._records.drop(record.ticket.id)

    @asynccontextmanager
    async def readable(self, record: Record, cursor: tuple[int, int] | None) -> AsyncIterator[None]:
        """Around a reading that starts at `cursor`: entered once it can be told whether it may."""
        if record.guest and record.claim.ended is None:
            # Its owner no longer waits for a stream of it.
            came = self._relay.flights.push(record.owner, f"S|{record.ticket.id}")
            self._supervisor.spawn("guest:came", came)
        if cursor is not None:
            await self._relay.trust.seen(record.broadcast, cursor[0])
        mirror = self._relay.mirrors.get(record.broadcast.key or "")
        if cursor is None or mirror is None or mirror.broadcast is not record.broadcast:
            yield
            return
        # A reader from here on: what it waits for may have to be made again, and is only for who listens.
        record.claim.connect()
        try:
            await mirror.until_reached(*cursor, READABLE_S + self._relay.flights.lease_ms / 1000)
            await self.last_word.settled(record)
            yield
        finally:
            record.claim.disconnect()

    # -- one that has ended -------------------------------------------------------------------
    async def _ended(self, id: str, known: Known, about: told.About) -> Record:
        try:
            end = told.read_ended(known.end)
        except msgspec.MsgspecError:
            raise NotFound("There is no such chat.") from None
        record = self._record(id, known, about)
        log = await self._texts.log_of(known, about, end, record)
        broadcast: Broadcast[Chunk] = self._broadcasts.landed(about.key, log)
        record.claim = Claim(
            record.ticket, broadcast, self._timers, attached=False, on_end=lambda claim: record.freeze()
        )
        record.events_at_end = end.events
        record.claim.end(told.end_of(end, asyncio.get_running_loop().time()))
        record.told = end.timings or dict.fromkeys(TIMINGS)  # nobody has told: unknown, not wrong
        return record

    def _record(self, id: str, known: Known, about: told.About) -> Record:
        now = asyncio.get_running_loop().time()
        arrived_at = now - max(0.0, time.time() - about.created_at)
        ticket = Ticket(
            id, about.tenant, Priority(about.priority), arrived_at, about.created_at, about.traceparent
        )
        record = Record(
            ticket,
            Role(known.role),
            told.cache_of(about, known.role),
            native=about.native,
            route=about.route,
            hit_ttl_s=about.ttl_s,
            guest=True,
        )
        record.known, record.owner = True, known.owner
        return record

    # -- cancel, and what others say ----------------------------------------------------------
    async def cancel(self, record: Record, reason: str) -> None:
        """Raises Conflict if it has ended otherwise, StateUnavailable while Redis is away."""
        if record.claim.ended is None:
            try:
                end = await self._requests.ended(
                    record.ticket.id,
                    told.cancelled(reason, len(record.broadcast.log)),
                    self._known.retention_ms,
                    how="w",
                )
            except StoreError:
                raise StateUnavailable() from None
            if end is None:
                raise StateUnavailable()  # Redis has lost it, and its owner has not told it again yet
            await self._until_its_owner_knows(record)
            try:
                end = await self._requests.final(record.ticket.id)
            except StoreError:
                raise StateUnavailable() from None
            self.endings.apply(record, end)
        refuse_unless_cancelled(record)

    async def _until_its_owner_knows(self, record: Record) -> None:
        """So that whoever is told of the cancel finds it cancelled there. Not for long: it may be frozen."""
        until = asyncio.get_running_loop().time() + CANCEL_S
        try:
            while asyncio.get_running_loop().time() < until and not self._relay.is_dead(record.owner):
                if await self._requests.owner_knows(record.ticket.id):
                    return
                await asyncio.sleep(0.005)
        except StoreError:
            return

    def _came_elsewhere(self, id: str) -> None:
        record = self._records.peek(id)
        if record is not None and record.claim.ended is None:
            record.claim.came_elsewhere()
