"""Idempotent submits over several processes: one `request_id` of one tenant is admitted once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from broadcast.relay import Relay
from cache.errors import StoreError
from cache.requests import SharedRequests
from chatbot.known import KnownRequests
from chatbot.ticket import Ticket
from runtime.errors import Conflict, NotFound

#: Beside the guard after a loss of memory: for another process to finish an admission that it has begun.
ADMITTING_S = 2.0
#: Whoever reads a refusal may use its request_id again: so long the refusal waits for Redis to have heard.
RELEASE_S = 0.05
_LOOK_S = 0.02

F = TypeVar("F")


class OnceEverywhere(Generic[F]):
    """`seek(id, tenant)` finds a record wherever it is. Without Redis each process knows its own alone."""

    def __init__(
        self,
        requests: SharedRequests,
        known: KnownRequests,
        relay: Relay,
        seek: Callable[[str, str], Awaitable[F]],
    ) -> None:
        self._requests = requests
        self._known = known
        self._relay = relay
        self._seek = seek

    async def earlier(self, request_id: str, ticket: Ticket, digest: str) -> F | None:
        """The record that another process has made for this request_id; None: it is the caller's from now on.

        Raises Conflict if it was used for another request.
        """
        mine, stale, seen, until = self._claim(ticket, digest), "", "", 0.0
        loop = asyncio.get_running_loop()
        while self._relay.up:
            try:
                first = await self._requests.first(
                    ticket.tenant, request_id, mine, self._known.running_ms, stale
                )
            except StoreError:
                return None
            if first == mine:
                return None
            id, other, proc = [*first.split("|"), "", ""][:3]
            if other != digest:
                raise Conflict("This request_id was used for another request.", param="request_id")
            try:
                return await self._seek(id, ticket.tenant)
            except NotFound:
                pass  # still being admitted there; or refused by now, and then the next look finds it free
            if first != seen:
                seen, until = first, loop.time() + ADMITTING_S + self._relay.flights.guard_s
            if loop.time() > until or self._relay.is_dead(proc):
                stale = first  # its process died before it admitted it, or its retention is over
            else:
                await asyncio.sleep(_LOOK_S)
        return None

    def release(self, request_id: str, ticket: Ticket, digest: str) -> asyncio.Task[None]:
        """A refused submit does not consume its request_id. The task ends when it is free."""
        return self._known.release(ticket.tenant, request_id, self._claim(ticket, digest))

    def _claim(self, ticket: Ticket, digest: str) -> str:
        return f"{ticket.id}|{digest}|{self._relay.flights.link.proc}"
