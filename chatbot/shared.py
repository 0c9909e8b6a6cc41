"""The pipeline of a request where several processes share their flights: Redis confirms each claim.

The same way as in `chatbot/manager.py`, but that the look-up in the cache and the claim of the key are one
round trip, and that nobody is told a role before it. Without Redis each process goes on by itself.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from admission import Admission
from broadcast.broadcast import Broadcast
from broadcast.mirror import Mirror
from broadcast.relay import Relay
from cache.answer import SealedAnswer
from cache.errors import StoreError
from cache.flights import Asking, Joined, Led, Refused, Wait
from cache.requests import SharedRequests
from cache.views import View
from chatbot import told
from chatbot.freshness import usable
from chatbot.guests import Guests
from chatbot.known import KnownRequests
from chatbot.manager import CANCELLED, ChatManager, Via
from chatbot.record import CacheResult, Record, Role
from chatbot.request import ChatRequest
from chatbot.ticket import Ticket
from chatbot.turns import Turns
from runtime.errors import Conflict, Draining, GatewayError, NotFound, QueueFull
from upstream.chunk import Chunk

#: Of a follower's admission: being known everywhere.
ATTACH_S = 1.0
#: Of a hit, which must never wait for Redis longer than a look-up may.
HIT_S = 0.1
#: At most so long for a reader's cursor to be reached by what its maker publishes, beside a lease.
READABLE_S = 2.0
_WAIT_MS = 250


class SharedChatManager(ChatManager):
    """`meet` gives it the parts that know of other processes, before the first request."""

    def meet(self, relay: Relay, requests: SharedRequests, known: KnownRequests, guests: Guests) -> None:
        self._relay = relay
        self._requests = requests
        self._known = known
        self._guests = guests
        self._turns: Turns[SealedAnswer] = Turns()

    # -- submit -------------------------------------------------------------------------------
    async def _admit_once(
        self, request: ChatRequest, request_id: str, ticket: Ticket, via: Via
    ) -> tuple[Record, bool]:
        self.forget_old()
        digest = self._keys.identity(request.body)
        known = await self._idempotency.known(ticket.tenant, request_id, digest)
        if known is not None:
            return await self.seek(known, ticket.tenant), False
        ticket = ticket.placed(self._key(request, ticket))
        with self._idempotency.first(ticket.tenant, request_id, digest) as entry:
            earlier = await self._earlier(request_id, ticket, digest)
            if earlier is not None:
                return earlier, False
            try:
                record = await self._admit(request, ticket, via)
            except BaseException:
                self._release(request_id, ticket, digest)
                raise
            entry.record_id = record.ticket.id
        return record, True

    async def _earlier(self, request_id: str, ticket: Ticket, digest: str) -> Record | None:
        """The record that another process has made for this request_id; else it is ours from now on."""
        mine, stale = f"{ticket.id}|{digest}", ""
        while self._relay.up:
            try:
                first = await self._requests.first(
                    ticket.tenant, request_id, mine, self._known.running_ms, stale
                )
            except StoreError:
                return None
            if first == mine:
                return None
            id, _, other = first.partition("|")
            if other != digest:
                raise Conflict("This request_id was used for another request.", param="request_id")
            record = await self._patiently(id, ticket.tenant)
            if record is not None:
                return record
            stale = first  # its process died before it admitted it, or its retention is over
        return None

    async def _patiently(self, id: str, tenant: str) -> Record | None:
        """The other process may still be admitting it."""
        until = asyncio.get_running_loop().time() + ATTACH_S
        while True:
            try:
                return await self.seek(id, tenant)
            except NotFound:
                if asyncio.get_running_loop().time() > until:
                    return None
            await asyncio.sleep(0.02)

    def _release(self, request_id: str, ticket: Ticket, digest: str) -> None:
        self._known.release(ticket.tenant, request_id, f"{ticket.id}|{digest}")

    def _key(self, request: ChatRequest, ticket: Ticket) -> str:
        """The sharing key; of what is not shared one that nobody else can have."""
        if request.shareable:
            return self._keys.key(ticket.tenant, request.body)
        return secrets.token_hex(32)

    async def _admit(self, request: ChatRequest, ticket: Ticket, via: Via) -> Record:
        key = self._key(request, ticket)
        if "_" in ticket.id and len(ticket.id) == 37:
            ticket = ticket.placed(key)
        too_old = request.cache.no_cache
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        while True:
            if self._draining:
                raise Draining()
            twin = await self._trusted_twin(key, request)
            if twin is not None:
                self._relay.lend(twin, request.body)
                return await self._join(twin, ticket, via)
            if (sealed := None if too_old else self._lane.peek(key)) is not None:
                log = usable(sealed, request.cache.max_age_s)
                if log is not None:
                    return await self._known_hit(self._hit(sealed, log, ticket, via, 0))
                too_old = True
            if self._turns.taken(key):
                sealed = await self._turns.outcome(key)
                log = None if too_old else usable(sealed, request.cache.max_age_s)
                if sealed is not None and log is not None:
                    record = self._hit(sealed, log, ticket, via, _ms_since(asked_at))
                    return await self._known_hit(record)
                continue
            with self._turns.mine(key) as for_all:
                found = await self._ask(key, request, ticket, via, read_cache=not too_old)
                if isinstance(found, SealedAnswer):
                    for_all.append(found)
                    log = usable(found, request.cache.max_age_s)
                    if log is None:
                        too_old = True
                        continue
                    record = self._hit(found, log, ticket, via, _ms_since(asked_at))
                    record.known = True
                    return record
                follows = self._decide(key, found, request, ticket, via, _ms_since(asked_at))
            if isinstance(follows, Record):
                return follows
            if isinstance(follows, Admission):
                return await self._follow(key, follows, ticket, via)
            await asyncio.sleep(follows)

    async def _trusted_twin(self, key: str, request: ChatRequest) -> Broadcast[Chunk] | None:
        flight = self._flights.find(key)
        if flight is not None and not self._relay.trusted(flight):
            try:
                await self._relay.settle(flight)
            except StoreError:
                return self._twin(key, request)
            flight = self._flights.find(key)
            if flight is not None and not self._relay.trusted(flight):
                return None
        return self._twin(key, request)

    async def _ask(
        self, key: str, request: ChatRequest, ticket: Ticket, via: Via, *, read_cache: bool
    ) -> Joined | SealedAnswer | None:
        """One round trip; None: no answer in time, so this process goes on by itself."""
        if request.cache.only_if_cached:
            return await self._lane.lookup(key)
        flight = self._flights.find(key)
        asking = Asking(
            key,
            ticket.id,
            told.about_unborn(
                ticket.tenant, key, ticket.created_at, ticket.priority.value, via.native, via.route
            ),
            self._known.running_ms,
            "fi" if via.native else "fi+",
            read_cache=read_cache and request.shareable,
            fresh=flight is not None and not flight.remote,
            lead=not self._broadcasts.hopeless,
            body=msgspec.json.encode(request.body) if self._relay.durable else b"",
        )
        return await self._lane.claim(asking)

    def _decide(
        self,
        key: str,
        found: Joined | None,
        request: ChatRequest,
        ticket: Ticket,
        via: Via,
        lookup_ms: int,
    ) -> Record | Admission | float:
        """Synchronous: lead, follow what is made elsewhere, or ask again after so many seconds."""
        match found:
            case None:
                return self._lead(key, request, ticket, via, lookup_ms)
            case Led(epoch=epoch):
                return self._lead_confirmed(key, epoch, request, ticket, via, lookup_ms)
            case View():
                return self._begin_to_follow(key, found, request, ticket)
            case Wait(ms=ms):
                return min(ms, _WAIT_MS) / 1000
            case Refused(why="MISS"):
                # Redis would have let us lead, but there is no room here: `_lead` says so.
                return self._lead(key, request, ticket, via, lookup_ms) if self._broadcasts.hopeless else 0.0
        raise AssertionError(found)

    def _lead_confirmed(
        self, key: str, epoch: int, request: ChatRequest, ticket: Ticket, via: Via, lookup_ms: int
    ) -> Record:
        mirror = self._relay.mirrors.get(key)
        if mirror is not None and not mirror.over:
            # Its maker was gone, which nobody here had noticed yet.
            mirror.body = request.body
            self._relay.lead_instead(mirror, epoch)
            record = Record(ticket, Role.LEADER, CacheResult.MISS, native=via.native, route=via.route)
            record.lookup_ms, record.known = lookup_ms, True
            return self._enrol(record, mirror.broadcast)
        try:
            record = self._lead(key, request, ticket, via, lookup_ms, epoch)
        except GatewayError:
            self._known.give_up(key, epoch, ticket.id)
            raise
        record.known = True
        return record

    def _led(self, broadcast: Broadcast[Chunk], request: ChatRequest, *, registered: bool) -> None:
        self._relay.led(broadcast, registered=registered, private=not request.shareable)

    def _begin_to_follow(self, key: str, view: View, request: ChatRequest, ticket: Ticket) -> Admission:
        """A place before the followers stage, and the mirror that is followed."""
        try:
            admission = self._followers.admit(ticket)
        except QueueFull:
            if key not in self._relay.mirrors:
                self._known.leave(key, ticket.id)
            raise
        mirror = self._relay.mirrors.get(key)
        if mirror is None or mirror.over:
            broadcast = self._broadcasts.follow(key, view.epoch, request.body, ticket.order)
            self._relay.mirror(broadcast, view, request.body)
        else:
            mirror.body = mirror.body or request.body
            mirror.saw(view)
        return admission

    async def _follow(self, key: str, admission: Admission, ticket: Ticket, via: Via) -> Record:
        """The mirror has just been made, and nothing has awaited since."""
        broadcast = self._flights.find(key)
        if broadcast is None:
            # It ended with what was replayed: whoever comes now begins anew.
            admission.withdraw()
            raise Conflict("The answer has just ended; ask again.", retryable=True)
        self._observer.joined(broadcast.phase)
        record = Record(ticket, Role.FOLLOWER, CacheResult.COALESCED, native=via.native, route=via.route)
        record.known = True
        self._enrol(record, broadcast)
        await self._attach(record, admission)
        return record

    async def _attach(self, record: Record, admission: Admission) -> None:
        """Under the followers permit: known everywhere, and what there is of the log pulled."""
        try:
            async with admission:
                if not record.known:
                    await self._known.admitted(record, ATTACH_S)
        except BaseException:
            record.claim.withdraw()
            raise

    async def _known_hit(self, record: Record) -> Record:
        if record.native and self._lane.healthy:
            await self._known.admitted(record, HIT_S)
            self._known.ended(record)
        return record

    def _enrol(self, record: Record, broadcast: Broadcast[Chunk]) -> Record:
        enrolled = super()._enrol(record, broadcast)
        if record.role is Role.LEADER and not record.known:
            self._known.soon(record)
        return enrolled

    def _ended(self, record: Record) -> None:
        super()._ended(record)
        self._known.ended(record)

    # -- by id --------------------------------------------------------------------------------
    async def seek(self, id: str, tenant: str) -> Record:
        try:
            return self.find(id, tenant)
        except NotFound:
            return await self._guests.find(id, tenant)

    async def stop(self, id: str, tenant: str) -> Record:
        record = await self.seek(id, tenant)
        if not record.guest:
            return self.cancel(id, tenant)
        await self._guests.cancel(record, CANCELLED)
        return record

    @asynccontextmanager
    async def readable(self, record: Record, cursor: tuple[int, int] | None) -> AsyncIterator[None]:
        if record.guest and record.claim.ended is None:
            self._guests.came(record)
        mirror = self._relay.mirrors.get(record.broadcast.key or "")
        if cursor is None or mirror is None or mirror.broadcast is not record.broadcast:
            yield
            return
        # A reader from here on: what it waits for may have to be made again, and is only for who listens.
        record.claim.connect()
        try:
            await self._until_reached(mirror, cursor)
            yield
        finally:
            record.claim.disconnect()

    async def _until_reached(self, mirror: Mirror, cursor: tuple[int, int]) -> None:
        """What a reader has seen may be on its way to us, or void by now."""
        log, (epoch, seq) = mirror.broadcast.log, cursor
        until = asyncio.get_running_loop().time() + READABLE_S + self._relay.flights.lease_ms / 1000
        while not mirror.over and asyncio.get_running_loop().time() < until:
            if log.epoch != epoch or seq <= log.seq:
                return
            mirror.pull()
            await asyncio.sleep(0.02)


def _ms_since(at: float) -> int:
    return round((asyncio.get_running_loop().time() - at) * 1000)
