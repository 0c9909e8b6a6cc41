"""A reader comes back from the process that took over, to the one that goes on for its own readers."""

from __future__ import annotations

import pytest

from app.cursor import Start, start_of
from app.exchange import Exchange
from app.sse import PRIVATE_END
from chatbot.record import Record
from runtime.errors import BadCursor, HistoryGone
from tests.fakes.asgi import Peer
from tests.fakes.front import front
from tests.unit.app.test_cursor import ended
from tests.virtual_time import virtual


def start(record: Record, later: int, seq: int) -> Start:
    """Of a reader that has seen `seq` of so many epochs later than ours."""
    cursor = f"{record.broadcast.log.epoch + later}-{seq}"
    peer = Peer(target="/", headers={"last-event-id": cursor})
    return start_of(Exchange(peer.scope, peer.receive, peer.send), record)


@pytest.mark.parametrize("seq", [0, 1, 77])
@virtual
async def test_what_it_has_seen_of_the_later_answer_is_void_here(seq: int) -> None:
    """I1: the text here from its start, never a part of one behind a part of the other; and no 400, which
    would end an EventSource that has done nothing wrong."""
    async with front() as gate:
        record = await ended(gate)
        with pytest.raises(BadCursor):
            start(record, 1, seq)  # while nobody else can have made one
        record.broadcast.log.contested = True
        assert start(record, 1, seq) == Start((record.broadcast.log.epoch + 1, seq), 0, reset=True)


@virtual
async def test_its_own_readers_go_on_where_they_were() -> None:
    """What they have is of this answer: the rest, no reset; and beyond its end is still nonsense."""
    async with front() as gate:
        record = await ended(gate)
        log = record.broadcast.log
        log.contested = True
        assert start(record, 0, 1) == Start((log.epoch, 1), 1)
        assert start(record, 0, 3).over
        assert start(record, -1, 5) == Start((log.epoch - 1, 5), 0, reset=True)
        with pytest.raises(BadCursor):
            start(record, 0, 4)


@virtual
async def test_who_was_told_of_its_own_end_there_is_not_told_again() -> None:
    """A cancel is the request's, not the answer's: it is the same end under either epoch."""
    async with front() as gate:
        record = await ended(gate, "cancelled")
        record.broadcast.log.contested = True
        assert start(record, 1, PRIVATE_END).over
        assert start(record, 1, 1).reset


@virtual
async def test_a_history_too_long_to_replay_is_gone_for_it_too() -> None:
    """It would have to be read from its start."""
    async with front(log_bytes=200) as gate:
        record = await ended(gate)
        record.broadcast.log.contested = True
        with pytest.raises(HistoryGone):
            start(record, 1, 1)
