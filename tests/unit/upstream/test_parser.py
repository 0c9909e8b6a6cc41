"""Server-sent events: any split gives the same events, and nobody's line costs more than it may."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import UpstreamBadResponse
from upstream.parser import MAX_EVENT_BYTES, SSEParser

LINES = st.sampled_from(
    [
        b"data: one",
        b"data:two",
        b"data:  three",
        b"data",
        b"data:",
        b": a comment",
        b"event: message",
        b"id: 7",
        b"database: no",
        b" data: no",
        b"",
        b"",
        "data: a\u2028b\u2029c\u0085d".encode(),
        b"\xef\xbb\xbfdata: not at the start",
    ]
)
STREAMS = st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r", b"\r\n"])), max_size=20)


def parse(*pieces: bytes) -> list[bytes]:
    parser = SSEParser()
    return [payload for piece in pieces for payload in parser.feed(piece)]


def by_the_standard(stream: list[tuple[bytes, bytes]]) -> list[bytes]:
    """The standard's algorithm, written down as plainly as it can be."""
    events: list[bytes] = []
    data: list[bytes] = []
    text = b"".join(line + end for line, end in stream)
    for line in text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")[:-1]:
        name, _, value = line.partition(b":")
        if not line and data:
            events.append(b"\n".join(data))
            data = []
        elif name == b"data":
            data.append(value[1:] if value[:1] == b" " else value)
    return events


@given(STREAMS, st.data())
def test_any_split_gives_the_events_of_the_standard(
    stream: list[tuple[bytes, bytes]], draw: st.DataObject
) -> None:
    """Where the network cuts the bytes makes no difference."""
    whole = b"".join(line + end for line, end in stream)
    if whole.startswith(b"\xef\xbb\xbf"):
        whole = b"\n" + whole
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert parse(*pieces) == by_the_standard(stream)
    assert parse(*(whole[i : i + 1] for i in range(len(whole)))) == by_the_standard(stream)


def test_several_events_in_one_read_come_out_in_order() -> None:
    """The ordinary case: whole events, LF only."""
    assert parse(b"data: 1\n\ndata: 2\n\n", b"data: 3\n\n") == [b"1", b"2", b"3"]


def test_data_lines_of_one_event_are_joined_by_a_newline() -> None:
    """An event may spread its data over lines."""
    assert parse(b"data: a\ndata: b\nid: 1\ndata:\n\n") == [b"a\nb\n"]


def test_a_crlf_that_is_cut_in_two_is_one_line_end() -> None:
    """Else the LF that comes later would end an event that has begun since."""
    assert parse(b"data: a\r", b"\ndata: b\r", b"\n\r", b"\n") == [b"a\nb"]


def test_a_cr_ends_an_event_without_waiting_for_an_lf() -> None:
    """The event is due when its end has arrived, not with the next byte."""
    assert parse(b"data: a\r\r") == [b"a"]


@pytest.mark.parametrize("cut", range(5))
def test_a_byte_order_mark_at_the_start_is_skipped(cut: int) -> None:
    """Wherever it is cut."""
    stream = b"\xef\xbb\xbfdata: a\n\n"
    assert parse(stream[:cut], stream[cut:]) == [b"a"]


def test_a_byte_order_mark_elsewhere_is_part_of_its_line() -> None:
    """Only the start of the stream has one."""
    assert parse(b"data: a\n\n\xef\xbb\xbfdata: b\n\n") == [b"a"]


@pytest.mark.parametrize("tail", [b"data: b", b"data: b\n", b"data: x\ndata: b"])
def test_an_event_that_the_end_cuts_off_is_discarded(tail: bytes) -> None:
    """The parser hands it out as no event, but tells the caller that it had begun."""
    parser = SSEParser()
    assert parser.feed(b"data: a\n\n" + tail) == [b"a"]
    assert (parser.finish() or b"").endswith(b"b")


@pytest.mark.parametrize("tail", [b"", b": comment", b"event: x\n"])
def test_an_end_between_events_leaves_nothing(tail: bytes) -> None:
    """A comment or a foreign field is no event that has begun."""
    parser = SSEParser()
    parser.feed(b"data: a\n\n" + tail)
    assert parser.finish() is None


def test_a_line_of_the_limit_is_taken() -> None:
    """The limit is inclusive."""
    line = b"data: " + b"x" * (MAX_EVENT_BYTES - 6)
    assert parse(line, b"\n\n") == [line[6:]]


def fed_until_refused(piece: bytes) -> int:
    """How many bytes an endless repetition of `piece` gets in before it is refused."""
    parser = SSEParser()
    fed = 0
    try:
        while fed <= 3 * MAX_EVENT_BYTES:
            fed += len(piece)
            parser.feed(piece)
    except UpstreamBadResponse:
        return fed
    raise AssertionError("never refused")


@pytest.mark.parametrize("step", [1024, 10 * 1024 * 1024])
def test_an_oversized_line_is_refused_before_it_is_kept(step: int) -> None:
    """A 10 MiB line is refused whether it comes at once or in 10,240 pieces."""
    assert fed_until_refused(b"x" * step) <= MAX_EVENT_BYTES + step


@pytest.mark.parametrize("line", [b"data: " + b"x" * 1000 + b"\n", b"data\n" * 1000])
def test_an_event_of_endlessly_many_lines_is_refused(line: bytes) -> None:
    """Short lines add up as well, also those without any data."""
    assert fed_until_refused(line) <= 3 * MAX_EVENT_BYTES


@pytest.mark.parametrize("comment", [b": ping pong\n", b": a longer one\n\n", b"event: x\n"])
def test_comments_may_go_on_for_ever(comment: bytes) -> None:
    """They are not kept, so they cost no memory."""
    parser = SSEParser()
    assert not any(parser.feed(comment * 1000) for _ in range(MAX_EVENT_BYTES // (len(comment) * 1000) + 9))
