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
from broadcast.relay import Relay
from cache.answer import SealedAnswer
from cache.errors import StoreError
from cache.flights import Asking, Joined, Led, Refused, Wait
from cache.requests import SharedRequests
from cache.views import View
from chatbot import told
from chatbot.asked import Asked
from chatbot.endings import refuse_unless_cancelled
from chatbot.freshness import usable
from chatbot.guests import Guests
from chatbot.known import KnownRequests
from chatbot.manager import CANCELLED, ChatManager
from chatbot.once import RELEASE_S, OnceEverywhere
from chatbot.record import CacheResult, Record, Role
from chatbot.request import ChatRequest
from chatbot.ticket import Ticket
from chatbot.turns import Turns
from chatbot.via import Via
from runtime.errors import Draining, GatewayError, NotFound, QueueFull
from upstream.chunk import Chunk

#: Of a follower's admission: being known everywhere.
ATTACH_S = 1.0
#: Of a hit, which must never wait for Redis longer than a look-up may.
HIT_S = 0.1
_WAIT_MS = 250


class SharedChatManager(ChatManager):
    """`meet` gives it the parts that know of other processes, before the first request."""

    def meet(self, relay: Relay, requests: SharedRequests, known: KnownRequests, guests: Guests) -> None:
        self._relay = relay
        self._known = known
        self._guests = guests
        self._once = OnceEverywhere(requests, known, relay, self.seek)
        self._turns: Turns[SealedAnswer] = Turns()

    # -- submit -------------------------------------------------------------------------------
    async def submit(self, request: ChatRequest, ticket: Ticket, via: Via) -> tuple[Record, bool]:
        """As in one process; the record may be another process's."""
        if self._draining:
            raise Draining()
        # What is not shared goes the same way, under a key that nobody else can have.
        key = self._keys.key(ticket.tenant, request.body) if request.shareable else secrets.token_hex(32)
        asked = Asked(key, request, ticket.placed(key), via, too_old=request.cache.no_cache)
        if request.request_id is None:
            return await self._admitted(asked), True
        return await self._admitted_once(asked, request.request_id)

    async def _admitted_once(self, asked: Asked, request_id: str) -> tuple[Record, bool]:
        self.forget_old()
        ticket, digest = asked.ticket, self._keys.identity(asked.request.body)
        known = await self.idempotency.known(ticket.tenant, request_id, digest)
        if known is not None:
            return await self.seek(known, ticket.tenant), False
        with self.idempotency.first(ticket.tenant, request_id, digest) as entry:
            earlier = await self._once.earlier(request_id, ticket, digest)
            if earlier is not None:
                return earlier, False
            try:
                record = await self._admitted(asked)
            except BaseException as error:
                released = self._once.release(request_id, ticket, digest)
                if isinstance(error, Exception):
                    await asyncio.wait({released}, timeout=RELEASE_S)
                raise
            entry.record_id = record.ticket.id
        return record, True

    async def _admitted(self, asked: Asked) -> Record:
        """Again and again, until there is a role to take: what was true may not be true after a wait."""
        while True:
            if self._draining:
                raise Draining()
            record = await self._at_hand(asked) or await self._by_redis(asked)
            if record is not None:
                return record

    async def _at_hand(self, asked: Asked) -> Record | None:
        """What this process knows."""
        twin = await self._trusted_twin(asked.key, asked.request)
        if twin is not None:
            self._relay.lend(twin, asked.request.body)
            record = await self._join(twin, asked.ticket, asked.via)
            return await self._told(record) if record.role is Role.CACHED else record
        return await self._told(self._hit_of(asked, self._lane.peek(asked.key)))

    async def _by_redis(self, asked: Asked) -> Record | None:
        """Look up, join or lead, by one round trip for all who ask the same here at the same time."""
        if self._turns.taken(asked.key):
            return await self._told(self._hit_of(asked, await self._turns.outcome(asked.key)))
        if asked.evades(self._flights.find(asked.key)):
            return None
        with self._relay.errands.asking(asked.key), self._turns.mine(asked.key) as for_all:
            found = await self._ask(asked)
            if isinstance(found, SealedAnswer):
                for_all.append(found)
                record = self._hit_of(asked, found)
                asked.too_old = record is None
                if record is None or asked.request.cache.only_if_cached:
                    return await self._told(record)
                record.known = asked.named and self._relay.up  # by the look-up itself
                if record.native:
                    self._known.ended(record)  # which could not know how long it took
                return record if asked.named else await self._told(record)
            follows = self._decide(asked, found)
        if isinstance(follows, Record):
            return follows if follows.known else await self._told(follows)
        if isinstance(follows, Admission):
            return await self._follow(asked, follows)
        await asyncio.sleep(follows)
        return None

    async def _told(self, record: Record | None) -> Record | None:
        """What cost no round trip, or one that came too late: known everywhere too, if Redis is well."""
        if record is not None and record.native and self._lane.healthy:
            await self._known.admitted(record, HIT_S)
            if not record.known:
                self._known.soon(record)
        return record

    def _hit_of(self, asked: Asked, sealed: SealedAnswer | None) -> Record | None:
        log = None if asked.too_old else usable(sealed, asked.request.cache.max_age_s)
        if sealed is None or log is None:
            return None
        return self._hit(sealed, log, asked.ticket, asked.via, asked.waited_ms)

    async def _trusted_twin(self, key: str, request: ChatRequest) -> Broadcast[Chunk] | None:
        flight = self._flights.find(key)
        if flight is not None and not self._relay.trust.in_(flight):
            try:
                await self._relay.trust.settle(flight)
            except StoreError:
                return self._twin(key, request)
            flight = self._flights.find(key)
            if flight is not None and not self._relay.trust.in_(flight):
                return None
        return self._twin(key, request)

    async def _ask(self, asked: Asked) -> Joined | SealedAnswer | None:
        """None: no answer in time, so this process goes on by itself."""
        request = asked.request
        if request.cache.only_if_cached:
            return None if asked.too_old else await self._lane.lookup(asked.key)  # None: `_lead` says so
        flight = self._flights.find(asked.key)
        asking = Asking(
            asked.key,
            asked.ticket.id if asked.named else "",
            told.about_unborn(asked.ticket, asked.key, asked.via.route, native=asked.via.native),
            self._known.running_ms,
            "fi" if asked.via.native else "fi+",
            read_cache=request.shareable and not asked.too_old,
            fresh=asked.key in self._relay.leads or (flight is not None and not flight.remote),
            lead=not self._broadcasts.outlook.hopeless,
            body=msgspec.json.encode(request.body) if self._relay.durable else b"",
            hit=told.hit() if asked.via.native and asked.named else b"",
            hit_ttl_ms=self._known.retention_ms,
        )
        return await self._lane.claim(asking)

    def _decide(self, asked: Asked, found: Joined | None) -> Record | Admission | float:
        """Synchronous: lead, follow what is made elsewhere, or ask again after so many seconds."""
        match found:
            case Led(epoch=epoch):
                return self._lead_confirmed(asked, epoch)
            case View():
                return self._begin_to_follow(asked, found)
            case Wait(ms=ms):
                return min(ms, _WAIT_MS) / 1000
            case Refused(why="PAST", detail=epoch):
                return asked.goes_beside(int(epoch))
            case Refused(why="MISS") if not self._broadcasts.outlook.hopeless:
                return 0.0  # there is room by now
        # Redis is silent, or there was no room here to lead: `_lead` says so.
        return self._lead(asked.key, asked.request, asked.ticket, asked.via, asked.waited_ms)

    def _lead_confirmed(self, asked: Asked, epoch: int) -> Record:
        via, mirror = asked.via, self._relay.mirrors.get(asked.key)
        if mirror is not None and not mirror.over:
            # Its maker was gone, which nobody here had noticed yet.
            mirror.body = asked.request.body
            self._relay.lead_instead(mirror, epoch)
            record = Record(asked.ticket, Role.LEADER, CacheResult.MISS, native=via.native, route=via.route)
            record.lookup_ms, record.known = asked.waited_ms, asked.named
            return self._enrol(record, mirror.broadcast)
        try:
            record = self._lead(asked.key, asked.request, asked.ticket, via, asked.waited_ms, epoch)
        except GatewayError:
            self._known.give_up(asked.key, epoch, asked.ticket.id)
            raise
        record.known = asked.named
        return record

    def _led(self, broadcast: Broadcast[Chunk], request: ChatRequest, *, registered: bool) -> None:
        self._relay.led(broadcast, registered=registered, private=not request.shareable)

    def _begin_to_follow(self, asked: Asked, view: View) -> Admission:
        """A place before the followers stage, and the mirror that is followed."""
        try:
            admission = self._followers.admit(asked.ticket)
        except QueueFull:
            if asked.key not in self._relay.mirrors:
                self._known.leave(asked.key, asked.ticket.id)
            raise
        mirror = self._relay.mirrors.get(asked.key)
        if mirror is None or mirror.over:
            ticket, body = asked.ticket, asked.request.body
            broadcast = self._broadcasts.follow(asked.key, view.epoch, body, ticket.order, ticket.tenant)
            self._relay.mirror(broadcast, view, asked.request.body)
        else:
            mirror.body = mirror.body or asked.request.body
            mirror.saw(view)
        return admission

    async def _follow(self, asked: Asked, admission: Admission) -> Record | None:
        """The mirror has just been made, and nothing has awaited since."""
        broadcast, via = self._flights.find(asked.key), asked.via
        if broadcast is None:
            admission.withdraw()  # it ended with what was replayed: begin anew
            return None
        self._observer.joined(broadcast.phase)
        record = Record(
            asked.ticket, Role.FOLLOWER, CacheResult.COALESCED, native=via.native, route=via.route
        )
        record.known = asked.named
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
            record = self.find(id, tenant)
        except NotFound:
            record = await self._guests.find(id, tenant)
        await self._guests.abreast.heard(record.broadcast)
        await self._guests.last_word.settled(record)
        return record

    async def level(self, record: Record) -> None:
        await self._guests.abreast.level(record.broadcast)
        await self._guests.last_word.settled(record)

    async def stop(self, id: str, tenant: str) -> Record:
        record = await self.seek(id, tenant)
        await self.level(record)
        if not record.guest:
            record = self.cancel(id, tenant)
            await self._known.told(id, ATTACH_S)
            if record.native and self._records.peek(id) is None:
                # Somebody who read it elsewhere has been told another end before.
                return refuse_unless_cancelled(await self.seek(id, tenant))
            return record
        await self._guests.cancel(record, CANCELLED)
        return record

    @asynccontextmanager
    async def readable(self, record: Record, cursor: tuple[int, int] | None) -> AsyncIterator[None]:
        async with self._guests.readable(record, cursor):
            yield
