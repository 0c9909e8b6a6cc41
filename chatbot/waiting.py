"""A turn of a conversation that waits for the one before it, as its client sees it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from broadcast.log import Log
from broadcast.subscription import Subscription
from chatbot.record import TIMINGS, Progress, Role
from chatbot.ticket import Ticket
from upstream.chunk import Chunk


def unborn(id: str) -> tuple[str, Log[Chunk]]:
    """Of a turn that ends while it waits: a key that nobody else has, and a log with nothing in it."""
    log: Log[Chunk] = Log(0)
    log.end()
    return secrets.token_hex(31) + id[-2:], log


class Waiting:
    """`position` is from 1. Without a flight it has no role yet: it is shown as a leader."""

    role = Role.LEADER

    def __init__(self, ticket: Ticket, position: int | None = None) -> None:
        self.ticket = ticket
        self._position = position
        self._readers: set[Subscription[Chunk]] = set()

    def __repr__(self) -> str:
        return f"<Waiting {self.ticket.id} [{self._position}]>"

    def moved(self, position: int) -> None:
        """It never goes back, whatever happens before it."""
        shown = max(1, position if self._position is None else min(position, self._position))
        if shown != self._position:
            self._position = shown
            self.wake()

    def wake(self) -> None:
        for reader in self._readers:
            reader.wake()

    @contextmanager
    def read_by(self, subscription: Subscription[Chunk]) -> Iterator[None]:
        self._readers.add(subscription)
        try:
            yield
        finally:
            self._readers.discard(subscription)

    def progress(self) -> Progress:
        return Progress("queued", "conversation", self._position, None)

    def snapshot(self) -> dict[str, Any]:
        """The body of `GET /chat/{id}`."""
        progress = self.progress()
        return {
            "id": self.ticket.id,
            "status": progress.status,
            "role": self.role.value,
            "stage": progress.stage,
            "queue_position": progress.queue_position,
            "eta_ms": progress.eta_ms,
            "created_at": round(self.ticket.created_at, 3),
            "timings": dict.fromkeys(TIMINGS),
            "finish_reason": None,
            "usage": None,
            "preparation": None,
            "text": "",
        }
