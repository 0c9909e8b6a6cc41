"""Turns that wait in another process: found by id, shown as they stand in line, and cancelled there."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import msgspec

from admission import Priority
from broadcast.relay import Relay
from cache.conversations import ConversationStore
from cache.errors import StoreError
from cache.requests import SharedRequests
from chatbot import told
from chatbot.known import KnownRequests
from chatbot.ticket import Ticket
from chatbot.waiting import Waiting
from runtime.errors import StateUnavailable, WorkerLost

#: An id with its partition.
_ID_LENGTH: Final = 39
#: Another process has so long to say that it has cancelled what waits there.
CANCEL_S: Final = 1.0
_LOOK_S: Final = 0.02


class Astray:
    def __init__(
        self, store: ConversationStore, requests: SharedRequests, known: KnownRequests, relay: Relay
    ) -> None:
        self._store = store
        self._requests = requests
        self._known = known
        self._relay = relay

    async def find(self, id: str, tenant: str) -> Waiting | None:
        """None if it does not wait (any more). Raises StateUnavailable while Redis is away."""
        if not id.isascii() or len(id) != _ID_LENGTH:
            return None
        try:
            return await self._find(id, tenant)
        except StoreError:
            raise StateUnavailable() from None

    async def _find(self, id: str, tenant: str) -> Waiting | None:
        there = await self._store.whereabouts(id)
        if there is None:
            return None
        proc, raw = there
        try:
            about = told.read_about(raw)
        except msgspec.MsgspecError:
            return None
        if about.tenant != tenant:
            return None
        view = await self._store.view(about.key, turns=False)
        line = () if view is None else view.line
        if id not in line and await self._is_over(id, proc, raw):
            return None
        return Waiting(_ticket(id, about), max(1, line.index(id)) if id in line else 1)

    async def _is_over(self, id: str, proc: str, about: bytes) -> bool:
        """It does not stand there: it has left, or its process is gone, which is then said for it."""
        if await self._store.whereabouts(id) is None:
            return True
        if await self._relay.lives(proc):
            return False
        if await self._requests.recall(id) is None:
            ms = self._known.retention_ms
            await self._requests.remember(id, about, "leader", 0, ms)
            await self._requests.ended(id, told.ended_with(WorkerLost()), ms)
        return True

    async def cancel(self, id: str) -> None:
        """Until it does not wait any more, ended or asked. Raises StateUnavailable."""
        until = asyncio.get_running_loop().time() + CANCEL_S
        there = await self._whereabouts(id)
        while there is not None:
            await self._relay.flights.push(there, f"C|{id}")
            await asyncio.sleep(_LOOK_S)
            if await self._known_to_all(id):
                return
            if asyncio.get_running_loop().time() > until:
                raise StateUnavailable()
            there = await self._whereabouts(id)

    async def _known_to_all(self, id: str) -> bool:
        try:
            return await self._requests.recall(id) is not None
        except StoreError:
            raise StateUnavailable() from None

    async def _whereabouts(self, id: str) -> str | None:
        try:
            there = await self._store.whereabouts(id)
        except StoreError:
            raise StateUnavailable() from None
        return None if there is None else there[0]


def _ticket(id: str, about: told.About) -> Ticket:
    arrived_at = asyncio.get_running_loop().time() - max(0.0, time.time() - about.created_at)
    return Ticket(id, about.tenant, Priority(about.priority), arrived_at, about.created_at, about.traceparent)
