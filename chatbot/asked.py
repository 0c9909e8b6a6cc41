"""A submit on its way through admission, where that may take several rounds."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from broadcast.broadcast import Broadcast
from cache.keys import beside
from chatbot.request import ChatRequest
from chatbot.ticket import Ticket
from chatbot.via import Via
from upstream.chunk import Chunk


@dataclass(slots=True)
class Asked:
    """A submit on its way. `too_old`: what the cache has is not wanted."""

    key: str
    request: ChatRequest
    ticket: Ticket
    via: Via
    too_old: bool

    def evades(self, flight: Broadcast[Chunk] | None) -> bool:
        """What runs under its key, and is not to be joined, runs on: another is asked for, beside it."""
        if flight is None or not flight.running or self.request.cache.only_if_cached:
            return False
        if flight.remote and flight.joinable:
            return False
        self.goes_beside(flight.log.epoch)
        return True

    def goes_beside(self, epoch: int) -> float:
        """For another key from now on, after so many seconds."""
        self.key = beside(self.key, epoch)
        return 0.0

    @property
    def named(self) -> bool:
        """May what decides the key name the request too? Only where both are in one partition."""
        return self.ticket.id.endswith(self.key[-2:])

    @property
    def waited_ms(self) -> float:
        return (asyncio.get_running_loop().time() - self.ticket.arrived_at) * 1000
