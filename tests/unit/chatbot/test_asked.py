"""A submit on its way: how long it has taken so far."""

from __future__ import annotations

import asyncio

from chatbot.asked import Asked
from chatbot.ticket import Ticket
from chatbot.via import NATIVE
from tests.fakes.pipeline import question
from tests.virtual_time import virtual


@virtual
async def test_the_wait_counts_from_its_arrival() -> None:
    """Not from the round of admission that it is in."""
    ticket = Ticket.issue("tenant")
    await asyncio.sleep(0.25)
    asked = Asked("key", question("q"), ticket, NATIVE, too_old=False)
    await asyncio.sleep(1)
    assert asked.waited_ms == 1250
