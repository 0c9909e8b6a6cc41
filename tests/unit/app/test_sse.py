"""Events as bytes: the exact frames, and any text through them, read back by the standard's rules."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import sse
from chatbot.record import Progress
from runtime.errors import GatewayError, QueueFull
from tests.fakes.front import front
from tests.fakes.turns import settle
from tests.system.sse import Event, Reader
from tests.virtual_time import virtual
from upstream.chunk import Chunk, parse_chunk

EPOCH = 1_700_000_000_000
#: Every character that JSON and UTF-8 can carry: all but the halves of surrogate pairs.
texts = st.text(st.characters(exclude_categories=["Cs"]))


def chunk(**delta: Any) -> Chunk:
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    return parse_chunk(json.dumps({"choices": [choice]}).encode())


def text_chunk(text: str) -> Chunk:
    return chunk(content=text)


def read(data: bytes) -> list[Event]:
    return Reader().feed(data)


# -- golden bytes ---------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("hello", b'"hello"'),
        (" a", b'" a"'),
        ("  ", b'"  "'),
        ("\n", b'"\\n"'),
        ("\r\n", b'"\\r\\n"'),
        ("\u2028\u2029\u0085", '"\u2028\u2029\u0085"'.encode()),
        ("\ufeff", '"\ufeff"'.encode()),
        ('"\\', b'"\\"\\\\"'),
        ("\U0001f680", '"\U0001f680"'.encode()),
        ("\x00", b'"\\u0000"'),
        ("data: x\n\nevent: done", b'"data: x\\n\\nevent: done"'),
    ],
)
def test_a_delta_is_exactly_these_bytes(text: str, written: bytes) -> None:
    """LF only, one space behind `data:`, one line of JSON, the id behind the data, a blank line."""
    expected = b'event: delta\ndata: {"text":' + written + b"}\nid: %d-7\n\n" % EPOCH
    assert sse.native_form(text_chunk(text), EPOCH, 7) == expected


def test_a_chunk_without_content_is_no_event() -> None:
    """Roles, empty texts, finish reasons and usage are not deltas, and have no number."""
    for silent in (chunk(role="assistant"), chunk(content=""), chunk(), chunk(content=None)):
        assert sse.native_form(silent, EPOCH, 1) == b""


def test_a_delta_carries_reasoning_and_tool_calls_where_there_are_some() -> None:
    """Row 100: and their names are not there otherwise."""
    call = {"index": 0, "function": {"name": "f", "arguments": "{"}}
    (event,) = read(sse.native_form(chunk(reasoning_content="hm", tool_calls=[call]), EPOCH, 1))
    assert event.json == {"text": "", "reasoning": "hm", "tool_calls": [call]}


def test_the_priming_frame_sets_retry_and_cursor_and_fires_nothing() -> None:
    """An id without data is remembered; an empty `data:` would fire a message that clients try to parse."""
    frame = sse.priming(EPOCH, 3)
    assert re.fullmatch(rb"retry: \d{3,4}\nid: 1700000000000-3\n\n", frame)
    reader = Reader()
    assert reader.feed(frame) == []
    assert reader.last_id == "1700000000000-3"


def test_reconnects_are_spread_over_a_second() -> None:
    """500 to 1500 ms: a restart does not bring everybody back at once."""
    retries = set()
    for _ in range(300):
        reader = Reader()
        reader.feed(sse.priming(1, 0))
        assert reader.retry is not None
        retries.add(reader.retry)
    assert min(retries) >= 500
    assert max(retries) <= 1500
    assert len(retries) > 100


def test_the_other_frames_are_exactly_these_bytes() -> None:
    """Public interface, byte for byte."""
    progress = Progress("waiting_slot", "llm_streams", 3, None)
    assert sse.status(progress) == (
        b'event: status\ndata: {"status":"waiting_slot","stage":"llm_streams",'
        b'"queue_position":3,"eta_ms":null}\n\n'
    )
    assert sse.reset(9) == b'event: reset\ndata: {"epoch":9}\nid: 9-0\n\n'
    assert sse.PING == b": p\n\n"
    assert sse.DONE == b"data: [DONE]\n\n"
    assert sse.comment("queue position 2") == b": queue position 2\n\n"
    assert sse.openai_error(QueueFull("full")) == (
        b'data: {"error":{"message":"full","type":"rate_limit_error","param":null,"code":"queue_full"}}\n\n'
    )


def test_no_event_has_a_name_that_eventsource_uses_itself() -> None:
    """`error`, `open` and `message` would call the wrong handlers."""
    frames = [
        sse.native_form(text_chunk("a"), 1, 1),
        sse.reset(1),
        sse.status(Progress("queued", "leaders", 1, 1)),
    ]
    assert {event.name for frame in frames for event in read(frame)} == {"delta", "reset", "status"}


def test_the_stream_headers_are_exactly_these() -> None:
    """Nobody may cache, compress or hold back a stream; and no length, and nothing illegal on HTTP/2."""
    assert dict(sse.HEADERS) == {
        b"content-type": b"text/event-stream; charset=utf-8",
        b"cache-control": b"no-store, no-transform",
        b"x-accel-buffering": b"no",
    }


# -- the OpenAI form ------------------------------------------------------------------------
def test_a_chunk_passes_as_the_model_sent_it() -> None:
    """Unknown fields, their order and their spacing are the client's business."""
    raw = b'{"x" : 1.0, "choices":[ {"index":0,"delta":{"content":"\\u00e4"}} ]}'
    for form in (sse.openai_form, sse.openai_usage_form):
        assert form(parse_chunk(raw), EPOCH, 1) == b"data: " + raw + b"\n\n"


def test_usage_is_taken_out_for_those_who_did_not_ask() -> None:
    """We asked for it: as a chunk of its own it vanishes, riding in another it is cut out."""
    own = parse_chunk(b'{"id":"c","choices":[],"usage":{"total_tokens":5}}')
    riding = parse_chunk(
        b'{"id":"c","usage":{"total_tokens":5},"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
    )
    assert sse.openai_form(own, EPOCH, 1) == b""
    (event,) = read(sse.openai_form(riding, EPOCH, 1))
    assert event.json == {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    for chunk in (own, riding):
        assert sse.openai_usage_form(chunk, EPOCH, 1) == b"data: " + chunk.raw + b"\n\n"


def test_a_usage_of_null_is_taken_out_too_and_one_that_is_deeper_in_is_not() -> None:
    """OpenAI sends `null` with every chunk to those who ask, which we do."""
    empty = parse_chunk(b'{"usage":null,"choices":[{"index":0,"delta":{"content":"a"}}]}')
    assert json.loads(sse.openai_form(empty, EPOCH, 1)[6:]) == {
        "choices": [{"index": 0, "delta": {"content": "a"}}]
    }
    raw = b'{"choices":[{"index":0,"delta":{"content":"a"},"usage":{"of":"the choice"}}]}'
    assert sse.openai_form(parse_chunk(raw), EPOCH, 1) == b"data: " + raw + b"\n\n"


# -- properties -----------------------------------------------------------------------------
@given(st.lists(texts, min_size=1, max_size=6), st.integers(min_value=0, max_value=400))
def test_any_text_arrives_whatever_the_network_cuts(deltas: list[str], cut: int) -> None:
    """Row 46: every character of Unicode, split at any byte, read by the standard's rules."""
    stream = b"".join(sse.native_form(text_chunk(text), EPOCH, n) for n, text in enumerate(deltas, 1))
    reader = Reader()
    events = reader.feed(stream[:cut]) + reader.feed(stream[cut:])
    sent = [(text, n) for n, text in enumerate(deltas, 1) if text]
    assert [(event.json["text"], event.id) for event in events] == [(t, f"{EPOCH}-{n}") for t, n in sent]
    assert {event.name for event in events} <= {"delta"}
    assert b"\r" not in stream
    assert not stream.startswith(b"\xef\xbb\xbf")


@given(st.lists(texts.filter(bool), min_size=1, max_size=4))
def test_an_id_is_never_acknowledged_without_its_text(deltas: list[str]) -> None:
    """Cut after each byte and resumed by the last id seen, the text is the whole text."""
    frames = [sse.native_form(text_chunk(text), EPOCH, n) for n, text in enumerate(deltas, 1)]
    stream = b"".join(frames)
    for cut in range(len(stream) + 1):
        reader = Reader()
        seen = [event.json["text"] for event in reader.feed(stream[:cut])]
        known = int(reader.last_id.partition("-")[2] or 0)
        assert seen == deltas[:known]


@given(texts, texts)
def test_no_message_or_code_can_break_a_frame(message: str, reason: str) -> None:
    """Whatever is said in an error or a reason is one line of one event."""
    (event,) = read(sse.openai_error(GatewayError(message or "x")))
    assert event.json["error"]["message"] == (message or "x")
    (cancelled,) = read(sse.event("cancelled", {"reason": reason}, 1, 2))
    assert cancelled.json == {"reason": reason}


# -- terminal events ------------------------------------------------------------------------
@virtual
async def test_a_shared_end_follows_the_last_delta_and_a_private_one_is_beyond_all() -> None:
    """So that `Last-Event-ID` means the same on every connection, whoever cancelled meanwhile."""
    async with front() as gate:
        done, gone = await gate.submit("q"), await gate.submit("another")
        finished = await gate.get(done["stream_url"])
        await gate.post(f"/chat/{gone['id']}/cancel", {})
        cancelled = await gate.get(gone["stream_url"])
        await settle()
        record = gate.record(done["id"])
        assert finished.end.id == f"{record.broadcast.log.epoch}-{record.broadcast.log.seq + 1}"
        assert record.broadcast.log.seq == 2
        assert cancelled.end.id == f"{gate.record(gone['id']).broadcast.log.epoch}-999999999"
        assert finished.end.json.keys() == {"finish_reason", "usage", "role", "cache", "timings"}
        assert (finished.end.json["role"], finished.end.json["cache"]) == ("leader", "miss")
        assert finished.end.json["usage"]["total_tokens"] == 5
        assert cancelled.end.json == {"reason": "cancelled by the client"}


@virtual
async def test_one_event_is_encoded_once_for_all_readers() -> None:
    """Rule 20: the bytes of an event are one object, however many read it."""
    async with front() as gate:
        chat = await gate.submit("q")
        await gate.get(chat["stream_url"])
        log = gate.record(chat["id"]).broadcast.log
        first = log.encoded(sse.native_form)
        await gate.get(chat["stream_url"])
        assert log.encoded(sse.native_form) is first
