"""Makes requests known to all processes: their records, their ends, and their logs where one is asked for.

Nothing of it may fail a request: what Redis does not take now is offered again when it is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from broadcast.broadcast import Broadcast
from broadcast.outcome import Outcome
from broadcast.relay import Relay
from cache.errors import StoreError
from cache.flights import LINGER_MS
from cache.names import log_key
from cache.processes import Processes
from cache.requests import How, SharedRequests
from chatbot import told
from chatbot.record import Record, Role
from chatbot.records import Records
from runtime.supervisor import Supervisor
from upstream.chunk import Chunk

#: Ends that wait for Redis to come back; older ones are let go: their records' leases say "lost".
MAX_UNTOLD = 10_000
#: Ended requests that are told again to a Redis that has forgotten them.
MAX_TOLD_AGAIN = 2_000


class KnownRequests:
    """`running_s`: the longest that a request may run; `retention_s`: how long it is known after."""

    def __init__(
        self,
        requests: SharedRequests,
        processes: Processes,
        relay: Relay,
        records: Records,
        supervisor: Supervisor,
        *,
        running_s: float,
        retention_s: float,
    ) -> None:
        self._requests = requests
        self._relay = relay
        self._records = records
        self._supervisor = supervisor
        self.running_ms = round((running_s + retention_s) * 1000)
        self.retention_ms = round(retention_s * 1000)
        self._untold: dict[str, Callable[[], Awaitable[object]]] = {}
        link = relay.flights.link
        link.listen("P", self._wanted)
        link.on_up(self._again)
        processes.on_oblivion(self._forgotten)
        relay.on_moved = self._moved

    def __repr__(self) -> str:
        return f"<KnownRequests {len(self._untold)} untold>"

    async def admitted(self, record: Record, timeout_s: float) -> None:
        """Make a new request known, if Redis can be reached within `timeout_s`; else later."""
        if not self._relay.up:
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self._remember(record)
        except (StoreError, TimeoutError):
            return

    def ended(self, record: Record) -> None:
        """It has ended here, where it was admitted."""
        id = record.ticket.id
        if record.known:
            self._offer(id, lambda: self._tell_end(record))

    async def told(self, id: str, timeout_s: float) -> None:
        """Until others know how it has ended, so that whoever was told so finds it so; not for long."""
        until = asyncio.get_running_loop().time() + timeout_s
        while id in self._untold and self._relay.up and asyncio.get_running_loop().time() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    def soon(self, record: Record) -> None:
        """As `admitted`, but nobody waits for it."""
        self._supervisor.spawn("known:running", self.admitted(record, 1.0))

    def release(self, tenant: str, request_id: str, value: str) -> asyncio.Task[None]:
        """A refused submit does not consume its request_id. The task ends when it is free."""
        forget = self._requests.release
        return self._relay.errands.run("known:release", lambda: forget(tenant, request_id, value))

    def give_up(self, key: str, epoch: int, id: str) -> None:
        """A key was claimed for a request that there is no room for."""
        self._relay.errands.abdicate(key, epoch)
        self._relay.errands.run("known:release", lambda: self._requests.forget(id))

    def leave(self, key: str, id: str) -> None:
        """A flight was joined for a request that there is no room for."""
        self._relay.errands.leave(key)
        self._relay.errands.run("known:release", lambda: self._requests.forget(id))

    # -- telling ------------------------------------------------------------------------------
    async def _remember(self, record: Record) -> None:
        ticket, epoch = record.ticket, record.broadcast.log.epoch
        await self._requests.remember(
            ticket.id, told.about(record), record.role.value, epoch, self.running_ms
        )
        record.known = True
        if record.claim.ended is not None:
            self.ended(record)  # meanwhile

    def _offer(self, id: str, tell: Callable[[], Awaitable[object]]) -> None:
        while len(self._untold) >= MAX_UNTOLD:
            del self._untold[next(iter(self._untold))]
        self._untold[id] = tell
        self._relay.errands.run("known:end", lambda: self._try(id))

    async def _try(self, id: str) -> None:
        tell = self._untold.get(id)
        if tell is not None:
            await tell()
            if self._untold.get(id) is tell:
                del self._untold[id]

    async def _tell_end(self, record: Record) -> None:
        id = record.ticket.id
        end, ended = told.ended(record), record.claim.ended
        if not record.native:
            if ended is not None and ended.outcome is Outcome.CANCELLED:
                # Whoever has cancelled it through another process is about to ask whether it is.
                await self._requests.ended(id, end, LINGER_MS, record.broadcast.log.epoch)
            else:
                await self._requests.forget(id)
            return
        shared = ended is not None and ended.shared
        found = await self._end(id, end, record.broadcast.log.epoch, how="s" if shared else "")
        if found is not None and told.read_ended(found).outcome != told.read_ended(end).outcome:
            record.overruled = True
            self._records.forget(id)  # somebody has been told otherwise: from here on what all know counts
        if self._relay.durable and shared and record.role is not Role.CACHED:
            await self._write_log(record, self.retention_ms)

    async def _end(self, id: str, end: bytes, epoch: int | None, how: How) -> bytes | None:
        return await self._requests.ended(id, end, self.retention_ms, epoch, how=how)

    # -- asked --------------------------------------------------------------------------------
    def _wanted(self, id: str) -> None:
        """A guest elsewhere has ended with text that is only here."""
        record = self._records.peek(id)
        if record is not None and record.claim.ended is not None:
            self._relay.errands.run("known:log", lambda: self._write_log(record, LINGER_MS))

    async def _write_log(self, record: Record, ttl_ms: int) -> None:
        """What ended with the flight is there for all of it; what ended before it is a request's own."""
        ended, log = record.claim.ended, record.broadcast.log
        own = "" if ended is not None and ended.shared else record.ticket.id
        name = log_key(record.broadcast.key or "", log.epoch, own)
        data = b"\n".join(chunk.raw.replace(b"\n", b" ") for chunk in record.chunks_of_all())
        await self._relay.flights.link.do("SET", name, data, "PX", ttl_ms)

    def _moved(self, broadcast: Broadcast[Chunk]) -> None:
        for id in broadcast.claims:
            record = self._records.peek(id)
            if record is not None and record.native and not record.guest:
                self._relay.errands.run("known:running", partial(self._remember, record))

    def _forgotten(self) -> None:
        """Redis has lost its memory: all that is read elsewhere by its id is told again, the newest first."""
        for record in self._records.running():
            record.known = record.known and record.guest
        self._again()
        for record in self._records.newest(MAX_TOLD_AGAIN):
            self._offer(record.ticket.id, partial(self._remember, record))

    def _again(self) -> None:
        """Redis is back: what runs and was not known, and what ended unheard."""
        for record in self._records.running():
            if record.native and not record.known and not record.guest:
                self._relay.errands.run("known:running", partial(self._remember, record))
        for id in list(self._untold):
            self._relay.errands.run("known:end", partial(self._try, id))
