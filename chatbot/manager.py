"""The pipeline of a request, in one screen: `ChatManager.submit`.

Between the last look into the flights table and the claim of the key nothing awaits, so of identical
requests exactly one leads. Whoever is told a role has it already.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from admission import Admission, Stage
from broadcast.broadcast import Broadcast
from broadcast.claim import Claim, ClaimTimers
from broadcast.guest import GuestClaim
from broadcast.lifecycle import Phase
from broadcast.log import Log
from broadcast.manager import BroadcastManager
from broadcast.outcome import End
from broadcast.subscription import Subscription
from cache.answer import SealedAnswer
from cache.fastlane import FastLane
from cache.keys import SharingKeys
from chatbot.freshness import age_of, older, ttl_of, usable
from chatbot.idempotency import Idempotency
from chatbot.observer import Observer
from chatbot.record import CacheResult, Progress, Record, Role
from chatbot.records import Records
from chatbot.request import ChatRequest
from chatbot.ticket import Ticket
from chatbot.via import Via
from chatbot.waiting import unborn
from processing.flights import Flights
from runtime.errors import Conflict, Draining, NotCached
from upstream.chunk import Chunk
from upstream.fold import completion

#: Why a request ended that its client has cancelled.
CANCELLED = "cancelled by the client"


class ChatManager:
    """Admits requests and answers for them by id."""

    def __init__(
        self,
        keys: SharingKeys,
        lane: FastLane,
        flights: Flights[Broadcast[Chunk]],
        followers: Stage,
        broadcasts: BroadcastManager,
        records: Records,
        timers: ClaimTimers,
        observer: Observer,
    ) -> None:
        self._keys = keys
        self._lane = lane
        self._flights = flights
        self._followers = followers
        self._broadcasts = broadcasts
        self._records = records
        self._timers = timers
        self._observer = observer
        self.idempotency = Idempotency()
        self._draining = False

    # -- submit -------------------------------------------------------------------------------
    async def submit(self, request: ChatRequest, ticket: Ticket, via: Via) -> tuple[Record, bool]:
        """Admit a request: its record, and whether this call made it (False: an idempotent repeat).

        Raises a GatewayError if it is refused, and then nothing of it stays behind.
        """
        if self._draining:
            raise Draining()
        if request.request_id is None:
            return await self._admit(request, ticket, via), True
        return await self._admit_once(request, request.request_id, ticket, via)

    async def _admit_once(
        self, request: ChatRequest, request_id: str, ticket: Ticket, via: Via
    ) -> tuple[Record, bool]:
        self.forget_old()
        digest = self._keys.identity(request.body)
        known = await self.idempotency.known(ticket.tenant, request_id, digest)
        if known is not None:
            return self.find(known, ticket.tenant), False
        with self.idempotency.first(ticket.tenant, request_id, digest) as entry:
            record = await self._admit(request, ticket, via)
            entry.record_id = record.ticket.id
        return record, True

    async def _admit(self, request: ChatRequest, ticket: Ticket, via: Via) -> Record:
        if not request.shareable:
            return self._lead(None, request, ticket, via)
        key = self._keys.key(ticket.tenant, request.body)
        if (twin := self._twin(key, request)) is not None:
            return await self._join(twin, ticket, via)
        if request.cache.no_cache:
            return self._lead(key, request, ticket, via)
        with self._flights.looking(key):
            sealed, lookup_ms = await self._look_up(key)
            log = usable(sealed, request.cache.max_age_s)
            if sealed is not None and log is not None:
                return self._hit(sealed, log, ticket, via, lookup_ms)
            # Look again: a flight that landed after our miss, or a twin that asked as we did, is here now.
            twin = self._twin(key, request)
            if twin is None:
                return self._lead(key, request, ticket, via, lookup_ms)
        return await self._join(twin, ticket, via)

    async def _look_up(self, key: str) -> tuple[SealedAnswer | None, float]:
        """What the cache has, and the milliseconds it took to say so. The only wait before the claim."""
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        sealed = await self._lane.lookup(key)
        if self._draining:
            raise Draining()
        return sealed, (loop.time() - asked_at) * 1000

    def _twin(self, key: str, request: ChatRequest) -> Broadcast[Chunk] | None:
        """A flight that this request may share: running, or sealed and not yet in the cache."""
        flight = self._flights.find(key)
        if flight is None or not flight.joinable:
            return None
        if flight.phase is Phase.SEALED:
            unwanted = request.cache.no_cache or older(age_of(flight), request.cache.max_age_s)
        else:
            unwanted = request.cache.only_if_cached
        return None if unwanted else flight

    # -- the three roles ----------------------------------------------------------------------
    def _hit(
        self, answer: SealedAnswer, log: Log[Chunk], ticket: Ticket, via: Via, lookup_ms: float
    ) -> Record:
        broadcast = self._broadcasts.landed(answer.key, log)
        ttl = answer.remaining_ttl(time.time())
        record = Record(ticket, Role.CACHED, CacheResult.HIT, native=via.native, route=via.route)
        record.hit_ttl_s, record.lookup_ms = ttl, lookup_ms
        return self._enrol(record, broadcast)

    def _lead(
        self,
        key: str | None,
        request: ChatRequest,
        ticket: Ticket,
        via: Via,
        lookup_ms: float | None = None,
        epoch: int | None = None,
    ) -> Record:
        if request.cache.only_if_cached:
            raise NotCached()
        broadcast = self._broadcasts.open(
            key, request.body, ticket.order, tenant=ticket.tenant, epoch=epoch, store=request.shareable
        )
        self._led(broadcast, request, registered=epoch is not None)
        result = CacheResult.MISS if request.shareable else CacheResult.BYPASS
        record = Record(ticket, Role.LEADER, result, native=via.native, route=via.route)
        record.lookup_ms = lookup_ms
        self._enrol(record, broadcast)
        self._broadcasts.begin(broadcast)
        return record

    def _led(self, broadcast: Broadcast[Chunk], request: ChatRequest, *, registered: bool) -> None:
        """Whoever tells other processes of it is told here."""

    async def _join(self, twin: Broadcast[Chunk], ticket: Ticket, via: Via) -> Record:
        if twin.phase is Phase.SEALED:
            hit = Record(ticket, Role.CACHED, CacheResult.HIT, native=via.native, route=via.route)
            hit.hit_ttl_s = ttl_of(twin)
            return self._enrol(hit, twin)
        admission = self._followers.admit(ticket)
        self._observer.joined(twin.phase)
        record = Record(ticket, Role.FOLLOWER, CacheResult.COALESCED, native=via.native, route=via.route)
        self._enrol(record, twin)
        await self._attach(record, admission)
        return record

    async def _attach(self, record: Record, admission: Admission) -> None:
        """In one process the log is at hand; a log kept elsewhere is pulled here, under the permit."""
        try:
            async with admission:
                pass
        except BaseException:
            record.claim.withdraw()
            raise

    def end_unborn(self, record: Record, end: End) -> None:
        """It ends before it had a flight: kept and counted as any other."""
        self._claim(record, self._broadcasts.landed(*unborn(record.ticket.id)))
        record.claim.end(end)

    def _enrol(self, record: Record, broadcast: Broadcast[Chunk]) -> Record:
        """Synchronous: from here on the request has a record, a claim, and exactly one end to come."""
        self._claim(record, broadcast)
        broadcast.join(record.claim)
        return record

    def _claim(self, record: Record, broadcast: Broadcast[Chunk]) -> None:
        ended, attached = (lambda _: self._ended(record)), not record.native
        record.claim = Claim(record.ticket, broadcast, self._timers, attached=attached, on_end=ended)
        self._records.add(record)

    def _ended(self, record: Record) -> None:
        record.freeze()
        self._records.ended(record)
        self._observer.ended(record)

    # -- reading ------------------------------------------------------------------------------
    @contextmanager
    def reading(self, record: Record, subscription: Subscription[Chunk]) -> Iterator[None]:
        """Around one open stream of `/chat/{id}/stream`: while it is open, a native request is a subscriber.

        An OpenAI request has its own connection for that; who else looks at its stream does not count.
        """
        broadcast = record.broadcast
        broadcast.readers.add(subscription)
        counts = record.native or record.guest
        if isinstance(record.claim, GuestClaim):
            record.claim.readers.add(subscription)
        if counts:
            record.claim.connect()
        try:
            yield
        finally:
            broadcast.readers.discard(subscription)
            if isinstance(record.claim, GuestClaim):
                record.claim.readers.discard(subscription)
            if counts:
                record.claim.disconnect()

    @contextmanager
    def serving(self, record: Record, subscription: Subscription[Chunk]) -> Iterator[None]:
        """Around the answer to an OpenAI request, which is a subscriber since its admission."""
        broadcast = record.broadcast
        broadcast.readers.add(subscription)
        try:
            yield
        finally:
            broadcast.readers.discard(subscription)
            record.claim.disconnect()

    def progress(self, record: Record) -> Progress:
        return record.progress(self._broadcasts.outlook.eta_s(record.broadcast))

    def snapshot(self, record: Record) -> dict[str, Any]:
        return record.snapshot(self._broadcasts.outlook.eta_s(record.broadcast))

    def completion(self, record: Record) -> bytes:
        """A completed answer as a chat.completion object, in JSON."""
        return record.broadcast.log.whole(completion)

    # -- by id --------------------------------------------------------------------------------
    def find(self, id: str, tenant: str) -> Record:
        """NotFound, or HistoryGone where only the id is left."""
        self.forget_old()
        return self._records.read(id, tenant)

    def cancel(self, id: str, tenant: str) -> Record:
        """End this request alone. A repeat is a no-op; Conflict once it has ended in another way."""
        record = self.find(id, tenant)
        ended = record.claim.ended
        if ended is None:
            record.claim.cancel(CANCELLED)
        elif ended.reason is None:
            raise Conflict("This chat has already ended.")
        return record

    async def seek(self, id: str, tenant: str) -> Record:
        """As `find`, wherever it was admitted."""
        return self.find(id, tenant)

    async def level(self, record: Record) -> None:
        """Until what is known of it here is what other processes know."""

    async def stop(self, id: str, tenant: str) -> Record:
        """As `cancel`, wherever it was admitted."""
        return self.cancel(id, tenant)

    @asynccontextmanager
    async def readable(self, record: Record, cursor: tuple[int, int] | None) -> AsyncIterator[None]:
        """Around one reading: entered once it can be told whether it may start at `cursor`, (epoch, seq)."""
        yield

    def forget_old(self) -> None:
        """Let go of the records whose retention is over, and of their request_ids."""
        self.idempotency.forget(self._records.sweep())

    # -- the end of the process ---------------------------------------------------------------
    @property
    def draining(self) -> bool:
        return self._draining

    def begin_drain(self) -> None:
        """Admit nothing more; what runs goes on, and stays readable."""
        self._draining = True
