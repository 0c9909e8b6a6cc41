"""A reader that has seen more than is left here: what it read, it read in another process."""

from __future__ import annotations

import pytest

from app.cursor import Start, start_of
from app.exchange import Exchange
from chatbot.record import Record
from runtime.errors import BadCursor
from tests.fakes.asgi import Peer
from tests.fakes.front import Front, front
from tests.virtual_time import virtual


def start(record: Record, seq: int) -> Start:
    cursor = f"{record.broadcast.log.epoch}-{seq}"
    peer = Peer(target="/", headers={"last-event-id": cursor})
    return start_of(Exchange(peer.scope, peer.receive, peer.send), record)


async def ended(gate: Front, how: str) -> Record:
    chat = await gate.submit(how)
    if how == "cancelled":
        await gate.post(f"/chat/{chat['id']}/cancel", {})
    await gate.get(chat["stream_url"])
    return gate.record(chat["id"])


@virtual
async def test_who_was_ahead_of_the_owner_that_cancelled_it_gets_the_end() -> None:
    """Cancelled where the text was a moment late: the cursor is honest, and only the end is left to tell."""
    async with front() as gate:
        record = await ended(gate, "cancelled")
        epoch, seen = record.broadcast.log.epoch, record.broadcast.log.seq + 3
        with pytest.raises(BadCursor):
            start(record, seen)  # where it was admitted nobody is ahead
        record.guest = True
        assert start(record, seen) == Start((epoch, seen), record.broadcast.log.seq)


@virtual
async def test_a_text_that_nobody_has_any_more_leaves_its_end() -> None:
    """It failed with seven events, and the process that had them is gone."""
    async with front() as gate:
        record = await ended(gate, "done")
        epoch, seq = record.broadcast.log.epoch, record.broadcast.log.seq
        with pytest.raises(BadCursor):
            start(record, 6)
        record.events_at_end = len(record.broadcast.log) + 5
        assert record.lost
        assert start(record, 6) == Start((epoch, 6), seq)
