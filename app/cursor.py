"""Where a reader starts: decided before the headers go out, from `Last-Event-ID` or `?after=`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs

from app import sse
from app.exchange import Exchange
from chatbot.record import Record
from runtime.errors import BadCursor, HistoryGone

_CURSOR: Final = re.compile(r"(\d{1,16})-(\d{1,9})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Start:
    """Where a connection starts: `cursor` is what it is told first, so that it can come back to it.

    The reader has seen everything up to `seq`. `reset`: what it has is of another epoch, and void; its
    cursor stays that one until the reset itself moves it, or a cut before that would lose it.
    `over`: it has seen the end as well.
    """

    cursor: tuple[int, int]
    seq: int = 0
    reset: bool = False
    over: bool = False


def start_of(exchange: Exchange, record: Record) -> Start:
    """Raises BadCursor or HistoryGone; never silently a full replay."""
    given = cursor_given(exchange)
    log = record.broadcast.log
    epoch, seq = cursor = given or (log.epoch, 0)
    # It comes from the process that has taken over, to the one that goes on for its own readers.
    back = epoch > log.epoch and log.contested
    private = back and seq == sse.PRIVATE_END
    if record.claim.ended is not None and (private or cursor == sse.terminal_id(record)):
        return Start(cursor, over=True)
    reset = back or epoch < log.epoch
    if record.lost and not reset:
        # What the reader has seen is more than is left; all that it can be told is how it ended.
        return Start(cursor, log.seq)
    if record.guest and record.alone and epoch == log.epoch and seq > log.seq:
        # It was read elsewhere, ahead of the process in which it was cancelled or expired.
        return Start(cursor, log.seq)
    if not reset and cursor > (log.epoch, log.seq):
        raise BadCursor()
    if log.overflowed and not record.alone:
        raise HistoryGone()
    return Start(cursor, 0 if reset else seq, reset)


def cursor_given(exchange: Exchange) -> tuple[int, int] | None:
    """Epoch and sequence number, None for a fresh reader. Raises BadCursor for what is neither."""
    text = exchange.header(b"last-event-id")
    if not text:
        query = parse_qs(exchange.scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if "after" not in query:
            return None
        text = query["after"][0]
    match = _CURSOR.fullmatch(text)
    if match is None:
        raise BadCursor()
    return int(match.group(1)), int(match.group(2))
