"""A ticket: an id that cannot be guessed, and a turn."""

from __future__ import annotations

import re

from admission import Priority
from admission.order import AGING_S
from chatbot.ticket import Ticket, new_id
from tests.virtual_time import virtual


def test_ids_carry_128_random_bits() -> None:
    """Whoever guesses an id reads somebody's answer."""
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(re.fullmatch(r"chat_[0-9a-f]{32}", id) for id in ids)


@virtual
async def test_a_ticket_has_its_turn_from_its_class_and_its_arrival() -> None:
    """Loop time for turns, wall time for people."""
    one, batch = Ticket.issue("t"), Ticket.issue("t", Priority.BATCH)
    assert one.arrived_at == batch.arrived_at == 1000.0
    assert (one.order, batch.order) == (1000.0, 1000.0 + AGING_S)
    assert one.created_at > 1_600_000_000
