"""A log as it begins, as it begins again, and what one write is made of."""

from __future__ import annotations

from collections.abc import Sequence

from broadcast.log import Log
from broadcast.subscription import Subscription
from tests.fakes.claims import Event


def plain(event: Event, epoch: int, seq: int) -> bytes:
    return b"%d-%d:%b|" % (epoch, seq, event.raw)


def fold(events: Sequence[Event]) -> bytes:
    return b"".join(event.raw for event in events)


def test_a_new_log_is_open_and_empty() -> None:
    """Not ended, made in no time, nothing in it, and without a bound never too large."""
    log: Log[Event] = Log(3)
    assert (log.epoch, log.ended, log.made_s, log.size, log.seq, len(log)) == (3, False, 0, 0, 0, 0)
    assert log.encoded(plain) == []
    log.extend([Event(b"x" * 10_000)])
    assert not log.overflowed
    assert log.weight >= 2 * log.size + 100 * len(log), "an event costs more than its bytes"


def test_a_log_that_begins_again_has_forgotten_all() -> None:
    """Size, numbers, forms, the whole, its end and its time: nothing of the old answer is in the new one."""
    log: Log[Event] = Log(3, max_bytes=4)
    log.extend([Event(b"ab"), Event(b"cde")])
    assert log.encoded(plain) == [b"3-1:ab|", b"3-2:cde|"]
    log.made_s = 9.0
    log.end()
    assert log.whole(fold) == b"abcde"
    kept = log.events

    log.restart(4)
    assert (log.epoch, log.ended, log.made_s, log.size, log.seq, len(log)) == (4, False, 0, 0, 0, 0)
    assert not log.overflowed
    log.extend([Event(b"f")])
    assert (log.size, log.encoded(plain)) == (1, [b"4-1:f|"])
    log.end()
    assert log.whole(fold) == b"f"
    assert [event.raw for event in kept] == [b"ab", b"cde"], "whoever ended with the old text has it"


def test_everything_from_a_cursor_on_is_one_piece() -> None:
    """Of no, one or many events; what a reader has had is not in it."""
    log: Log[Event] = Log(3)
    log.extend([Event(b"a"), Event(b"b"), Event(b"c")])
    assert [log.since(cursor, plain) for cursor in range(4)] == [
        b"3-1:a|3-2:b|3-3:c|", b"3-2:b|3-3:c|", b"3-3:c|", b"",
    ]  # fmt: skip


def test_a_reader_of_what_is_void_takes_nothing_until_it_rewinds() -> None:
    """Its cursor is one into another text: half of this and half of that must never be shown."""
    log: Log[Event] = Log(3)
    log.extend([Event(b"a"), Event(b"b")])
    reader = Subscription(log)
    assert (reader.closed, reader.released, reader.cursor) == (False, False, 0)
    assert reader.take(plain) == b"3-1:a|3-2:b|"
    log.restart(4)
    log.extend([Event(b"x"), Event(b"y"), Event(b"z")])
    assert reader.voided
    assert (reader.behind, reader.take(plain)) == (0, b"")
    reader.rewind()
    assert not reader.voided
    assert (reader.behind, reader.take(plain)) == (3, b"4-1:x|4-2:y|4-3:z|")
    reader.release()
    assert (reader.released, reader.closed) == (True, False)
