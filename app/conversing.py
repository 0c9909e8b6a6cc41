"""What a process builds for its conversations: their store, and what finds their turns in other processes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Final

from cache.conversations import Bounds, SharedConversations
from cache.link import Link
from cache.requests import SharedRequests
from chatbot.astray import Astray
from chatbot.behind import Around
from chatbot.conversations import Conversations
from chatbot.once import OnceEverywhere
from chatbot.record import Record
from runtime.supervisor import Supervisor

if TYPE_CHECKING:
    from app.gateway import Gateway
    from app.sharing import Sharing

#: How long the first turn of a process waits for its link.
FIRST_S: Final = 1.0
#: What ended while it waited is made known to others before it leaves its line.
TOLD_S: Final = 1.0


class LateLink:
    """The line to Redis of a process that is alone: made by the first who needs one."""

    def __init__(self, link: Link, supervisor: Supervisor) -> None:
        self._link = link
        self._supervisor = supervisor
        self._until: float | None = None

    async def __call__(self) -> Link:
        loop = asyncio.get_running_loop()
        if self._until is None:
            self._until = loop.time() + FIRST_S
            # Its loops are no part of the request that happens to be the first.
            Context().run(self._link.start, self._supervisor)
        if not self._link.up and loop.time() < self._until:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._until):
                    await self._link.until_up()
        return self._link

    async def close(self) -> None:
        if self._until is not None:
            await self._link.close()


class Conversing(Conversations):
    """The conversations of a gateway, and what they have in other processes, if there are any."""

    def __init__(self, gateway: Gateway) -> None:
        self._sharing = sharing = gateway.sharing
        self._late: LateLink | None = None
        link: Callable[[], Awaitable[Link]]
        if sharing is None:
            own = Link(
                gateway.addresses.redis, "", on_error=lambda op: gateway.metrics.redis_errors.labels(op).inc()
            )
            link = self._late = LateLink(own, gateway.supervisor)
        else:
            link = self._shared_link
        s = gateway.settings
        store = SharedConversations(
            link,
            gateway.addresses.proc,
            Bounds(
                s.conversation_ttl_s, s.conversation_queue, s.conversation_max_turns, s.conversation_max_bytes
            ),
            known_s=s.queue_timeout_s + s.stream_timeout_s + s.retention_s,
            dead=lambda: () if sharing is None else sharing.processes.dead,
        )
        around = Around(
            store,
            gateway.manager,
            gateway.records,
            gateway.supervisor,
            self._told,
            self.look,
            s.queue_timeout_s,
            s.context_tokens,
            s.queue_size,
        )
        super().__init__(around, gateway.keys)
        if sharing is not None:
            self._join(sharing, store)

    def _join(self, sharing: Sharing, store: SharedConversations) -> None:
        requests, known, relay = SharedRequests(sharing.link), sharing.known, sharing.relay
        # The seek of this one: the first submit of a request_id may still wait.
        self.meet(Astray(store, requests, known, relay), OnceEverywhere(requests, known, relay, self.seek))
        sharing.link.listen("V", self.look)
        sharing.link.listen("C", self.cancelled_elsewhere)
        sharing.processes.on_death(lambda proc: self.look_all())

    async def _shared_link(self) -> Link:
        assert self._sharing is not None
        return self._sharing.link

    async def _told(self, record: Record) -> None:
        if self._sharing is None:
            return
        if not record.known:
            await self._sharing.known.admitted(record, TOLD_S)
        await self._sharing.known.told(record.ticket.id, TOLD_S)

    async def close(self) -> None:
        await super().close()
        if self._late is not None:
            await self._late.close()
