"""One turn of a conversation, from its submit until what it leaves behind is written.

It stands in the conversation's line. While it is not the first it is a `Waiting`; once it is, it is submitted
like any other request, with its history, and under the id that it has had from the start.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from broadcast.outcome import End, Outcome
from cache.conversations import LEASE_S, ConversationStore, Place
from cache.errors import StoreError, StoreRefused
from chatbot import history
from chatbot.manager import ChatManager
from chatbot.record import TIMINGS, CacheResult, Record, Role, usage
from chatbot.records import Records
from chatbot.request import ChatRequest
from chatbot.ticket import Ticket
from chatbot.via import Via
from chatbot.waiting import Waiting
from runtime.errors import (
    ConversationBusy,
    ConversationUnavailable,
    Draining,
    GatewayError,
    QueueFull,
    QueueTimeout,
)
from runtime.supervisor import Supervisor

log = logging.getLogger("refrain.conversation")

#: Whoever waits is woken when it is its turn. A wake that was lost costs so long.
LOOK_S: Final = 1.0
BEAT_S: Final = LEASE_S / 3
#: What could not be written is tried again so often, and for so long.
RETRY_S: Final = 0.25
GIVE_UP_S: Final = 60.0
#: Of a turn that Redis takes a word of, but not what it has to say.
REFUSALS: Final = 4

Found = Record | Waiting


@dataclass(frozen=True, slots=True)
class Around:
    """What each turn needs. `told(record)`: let other processes know it; `left(id)`: that one is next.

    `waiting`: the turns of this process that have been told that they wait, at most `room`.
    """

    store: ConversationStore
    manager: ChatManager
    records: Records
    supervisor: Supervisor
    told: Callable[[Record], Awaitable[None]]
    left: Callable[[str], None]
    queue_s: float
    window: int
    room: int
    waiting: set[Turn] = field(default_factory=set)


class Turn:
    """State: its place, and its record as soon as it has one. `found`: what its submit is answered with."""

    def __init__(self, around: Around, name: str, about: bytes, request: ChatRequest, ticket: Ticket) -> None:
        self.waiting = Waiting(ticket)
        self.record: Record | None = None
        self.found: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        self._around = around
        self._name = name
        self._about = about
        self._request = request
        self._ticket = ticket
        self._place: Place | None = None
        self._woken = asyncio.Event()
        self._over = asyncio.Event()
        self._asking: asyncio.Task[None] | None = None
        self._refusal: GatewayError | None = None

    def __repr__(self) -> str:
        state = "waits" if self.record is None else "asked"
        return f"<Turn {self._ticket.id} of {self._name[:8]} [{state}]>"

    @property
    def undecided(self) -> bool:
        """It has no record yet, neither an own end nor an admission."""
        return self.record is None and self._around.records.peek(self._ticket.id) is None

    def look(self) -> None:
        """Something before it has changed."""
        self._woken.set()

    # -- its course ---------------------------------------------------------------------------
    async def run(self, via: Via) -> None:
        try:
            await self._begin(via)
        except GatewayError as error:
            if isinstance(error, ConversationBusy):
                self.found.set_exception(error)
                return
            self._refused(error, via)
        except BaseException:
            # The process ends, or there is a bug: whoever asks is not left waiting.
            if not self.found.done():
                self.found.set_exception(GatewayError())
            raise
        finally:
            self._around.waiting.discard(self)
        await self._until_over()
        await self._leave()

    async def _begin(self, via: Via) -> None:
        """Raises what refuses it."""
        place = await self._enter()
        until = asyncio.get_running_loop().time() + self._around.queue_s
        while self.record is None:
            if place.position == 0 and await self._is_asked(place, via):
                break
            if self._around.manager.draining:
                raise Draining()
            self.waiting.moved(place.position)
            if not self.found.done():
                self._waits()
            await self._until_woken(until)
            place = await self._beat(place, runs=False)
        if not self.found.done() and self.record is not None:
            self.found.set_result(self.record)

    def _waits(self) -> None:
        """Raises QueueFull: each holds a whole request, and none of the stages knows of it."""
        if len(self._around.waiting) >= self._around.room:
            raise QueueFull()
        self._around.waiting.add(self)
        self.found.set_result(self.waiting)

    async def _enter(self) -> Place:
        try:
            place = await self._around.store.enter(self._name, self._ticket.id, self._about)
        except StoreError:
            raise ConversationUnavailable() from None
        if place is None:
            raise ConversationBusy()
        self._place = place
        return place

    async def _until_woken(self, until: float) -> None:
        """Raises QueueTimeout when its time is over."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(min(loop.time() + LOOK_S, until)):
                await self._woken.wait()
        except TimeoutError:
            if loop.time() >= until and self.record is None:
                raise QueueTimeout() from None
        self._woken.clear()

    async def _beat(self, place: Place, *, runs: bool) -> Place:
        """What is true after so long; what was true before if Redis does not say."""
        try:
            found = await self._around.store.beat(self._name, self._ticket.id, place, runs=runs)
        except StoreError:
            return place
        if found is None or runs:
            return place  # what it began with does not change: how often it had been forgotten by then
        self._place = found
        return found

    async def _is_asked(self, place: Place, via: Via) -> bool:
        """False: there is no room for it, and it has been told that it waits."""
        try:
            await self._ask(place, via)
        except QueueFull:
            if not self.found.done():
                raise
            return False
        return True

    async def _ask(self, place: Place, via: Via) -> None:
        """Submit it with its history, in a task that can be cancelled without this one."""
        try:
            turns = history.read(place.turns)
        except msgspec.MsgspecError:
            raise ConversationUnavailable() from None
        self._place = replace(place, turns=())  # not held as long as it runs
        body = history.with_history(self._request.body, turns, self._around.window)
        request = replace(self._request, body=body, request_id=None, conversation=None)
        self._asking = self._around.supervisor.spawn("conversation:ask", self._submit(request, via))
        await asyncio.wait({self._asking})
        if self.record is None:
            raise self._refusal or GatewayError()
        self.waiting.wake()

    async def _submit(self, request: ChatRequest, via: Via) -> None:
        try:
            record, _ = await self._around.manager.submit(request, self._ticket, via)
        except GatewayError as error:
            self._refusal = error
            return
        self.record = record
        record.on_end = self._over.set

    # -- an end of its own --------------------------------------------------------------------
    def end(self, via: Via, *, error: GatewayError | None = None, reason: str | None = None) -> None:
        """It ends before anything was asked for it. Only while it is undecided."""
        assert self.undecided
        if self._asking is not None:
            self._asking.cancel()
        now = asyncio.get_running_loop().time()
        outcome = Outcome.CANCELLED if error is None else Outcome.FAILED
        if isinstance(error, QueueTimeout):
            outcome = Outcome.EXPIRED
        record = Record(self._ticket, Role.LEADER, CacheResult.MISS, native=via.native, route=via.route)
        waited = max(0, round((now - self._ticket.arrived_at) * 1000))
        record.told = dict.fromkeys(TIMINGS) | {"queue_ms": waited, "total_ms": waited}
        self.record = record
        self._around.manager.end_unborn(record, End(outcome, now, shared=False, error=error, reason=reason))
        self._woken.set()
        self.waiting.wake()

    def _refused(self, error: GatewayError, via: Via) -> None:
        """Whoever has been told that it waits finds how that ended; else nothing of it stays."""
        if not self.found.done():
            self.found.set_exception(error)
        elif self.undecided:
            self.end(via, error=error)

    # -- leaving ------------------------------------------------------------------------------
    async def _until_over(self) -> None:
        while self.record is not None and self.record.claim.ended is None:
            try:
                async with asyncio.timeout(BEAT_S):
                    await self._over.wait()
            except TimeoutError:
                if self._place is not None:
                    await self._beat(self._place, runs=True)

    async def _leave(self) -> None:
        """Until Redis has heard it; whoever is next waits for that, for a lease at most."""
        refusals, until = 0, asyncio.get_running_loop().time() + GIVE_UP_S
        turn: bytes | None = None
        while True:
            if self.record is not None:
                await self._around.told(self.record)  # others may have been told of another end
            if turn is None or not self._completed:
                turn = self._left_behind()
            try:
                kept, following = await self._around.store.finish(
                    self._name, self._ticket.id, self._place, turn
                )
                break
            except StoreError as error:
                if self._place is None:
                    return  # if it stands there at all, its lease is the one that it had from the start
                if asyncio.get_running_loop().time() > until:
                    log.warning("a turn's end could not be written", extra={"id": self._ticket.id})
                    return
                refusals += isinstance(error, StoreRefused)
                turn = turn if refusals < REFUSALS else b""
                await asyncio.sleep(RETRY_S)
        if self._completed and not kept:
            log.info("a turn was not kept", extra={"id": self._ticket.id})
        self._around.left(following)

    @property
    def _completed(self) -> bool:
        record = self.record
        return (
            record is not None
            and record.claim.ended is not None
            and record.claim.ended.outcome is Outcome.COMPLETED
            and not record.overruled
        )

    def _left_behind(self) -> bytes:
        """b"" unless there is a complete answer."""
        record = self.record
        if record is None or not self._completed:
            return b""
        try:
            whole = self._around.manager.completion(record)
            created_at, tokens = self._ticket.created_at, usage(record.chunks())
            return history.leave(self._ticket.id, self._request.body, created_at, whole, tokens)
        except (GatewayError, LookupError, ValueError, msgspec.MsgspecError):
            log.warning("an answer that cannot be kept", extra={"id": self._ticket.id})
            return b""
