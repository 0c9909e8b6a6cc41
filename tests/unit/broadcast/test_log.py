"""The log: append-only, numbered by content, encoded once per wire form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from broadcast.log import Log


@dataclass(frozen=True)
class Event:
    """Plain bytes are enough: the log is generic."""

    raw: bytes
    content: bool = True


class Counting:
    """A wire form that counts how often it was asked for each event."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def form(self, event: Event, epoch: int, seq: int) -> bytes:
        self.written.append(event.raw)
        return b"%d-%d:%b|" % (epoch, seq, event.raw) if event.content else b""


def log_of(*events: Event) -> Log[Event]:
    log: Log[Event] = Log(7)
    log.extend(events)
    return log


def test_content_is_numbered_from_one_and_nothing_else_counts() -> None:
    """So that an id means the same on every connection: roles and usage have no number of their own."""
    log = log_of(Event(b"role", content=False), Event(b"a"), Event(b"b"), Event(b"usage", content=False))
    log.extend([Event(b"c")])
    assert (len(log), log.seq) == (5, 3)
    assert b"".join(log.encoded(Counting().form)) == b"7-1:a|7-2:b|7-3:c|"


@given(st.lists(st.booleans(), max_size=30))
def test_a_cursor_and_its_number_name_the_same_place(contents: list[bool]) -> None:
    """Row 43: whoever resumes after event n gets exactly what follows it, for every n."""
    log = log_of(*(Event(b"%d" % number, content) for number, content in enumerate(contents)))
    carrying = [index for index, content in enumerate(contents) if content]
    for seq in range(log.seq + 1):
        index = log.index_after(seq)
        assert [event for event in log.events[index:] if event.content] == [
            log.events[at] for at in carrying[seq:]
        ]


@given(st.lists(st.lists(st.booleans(), max_size=4), max_size=8), st.data())
def test_many_readers_cost_one_encoding_per_event(batches: list[list[bool]], data: st.DataObject) -> None:
    """However the appends and the reads interleave, each event is written once and nobody misses a byte."""
    log: Log[Event] = Log(7)
    counting = Counting()
    form = counting.form
    cursors, got = [0, 0, 0], [b"", b"", b""]
    for number, batch in enumerate(batches):
        log.extend([Event(b"%d.%d" % (number, at), content) for at, content in enumerate(batch)])
        reader = data.draw(st.integers(0, 2))
        if cursors[reader] < len(log):
            got[reader] += log.since(cursors[reader], form)
            cursors[reader] = len(log)
    for reader in range(3):
        got[reader] += log.since(cursors[reader], form)

    assert got[0] == got[1] == got[2]
    assert counting.written == [event.raw for event in log.events]


def test_each_form_is_encoded_apart() -> None:
    """A native and an OpenAI reader share the log, not the bytes."""
    log = log_of(Event(b"a"))
    one, other = Counting().form, Counting().form
    assert log.encoded(one) is log.encoded(one)
    assert log.encoded(one) is not log.encoded(other)


def test_the_whole_is_folded_once() -> None:
    """A thousand non-stream callers of one answer cost one fold."""
    folds: list[Sequence[Event]] = []

    def fold(events: Sequence[Event]) -> bytes:
        folds.append(events)
        return b"whole"

    log = log_of(Event(b"a"), Event(b"b"))
    log.end()
    assert log.whole(fold) == log.whole(fold) == b"whole"
    assert folds == [log.events]

    kept = log_of(Event(b"a"))
    kept.end()
    kept.preset(b"from the cache")
    assert kept.whole(fold) == b"from the cache"
    assert len(folds) == 1


def test_a_log_beyond_its_bound_says_so_and_goes_on() -> None:
    """Its readers read on; new ones and the cache are told."""
    log: Log[Event] = Log(7, max_bytes=10)
    log.extend([Event(b"12345"), Event(b"12345")])
    assert not log.overflowed
    log.extend([Event(b"6")])
    assert log.overflowed
    assert (log.size, len(log)) == (11, 3)
    assert log.weight > log.size
