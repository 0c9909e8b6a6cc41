"""A submit on its way through admission, where that may take several rounds."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from chatbot.request import ChatRequest
from chatbot.ticket import Ticket
from chatbot.via import Via


@dataclass(slots=True)
class Asked:
    """A submit on its way. `too_old`: what the cache has is not wanted."""

    key: str
    request: ChatRequest
    ticket: Ticket
    via: Via
    too_old: bool

    @property
    def named(self) -> bool:
        """May what decides the key name the request too? Only where both are in one partition."""
        return self.ticket.id.endswith(self.key[-2:])

    @property
    def waited_ms(self) -> float:
        return (asyncio.get_running_loop().time() - self.ticket.arrived_at) * 1000
