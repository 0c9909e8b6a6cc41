"""The request body: its bounds, its types, and every way in which it can be wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.body import BODY_TIMEOUT_S, MAX_VALUES, decode, read_json
from app.exchange import ClientGone, Exchange
from runtime.errors import (
    BodyTimeout,
    BodyTooLarge,
    GatewayError,
    InvalidRequest,
    MalformedRequest,
    UnsupportedMediaType,
)
from runtime.nesting import MAX_DEPTH
from tests.fakes.asgi import Peer
from tests.virtual_time import virtual

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(10**30), max_value=10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


def exchange(
    body: bytes | Sequence[bytes] = b"{}", headers: Sequence[tuple[str, str]] = ()
) -> tuple[Exchange, Peer]:
    peer = Peer("POST", "/chat", headers=headers, body=body)
    return Exchange(peer.scope, peer.receive, peer.send), peer


# -- decode ---------------------------------------------------------------------------------
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), values, max_size=5))
def test_every_object_of_json_is_decoded_as_it_is(value: dict[str, Any]) -> None:
    """Unknown fields go upstream untouched: large integers, exact floats and any text among them."""
    assert decode(json.dumps(value).encode()) == value
    assert decode(json.dumps(value, ensure_ascii=False, indent=2).encode()) == value


@given(st.binary(max_size=80))
def test_any_bytes_are_an_object_or_a_refusal(body: bytes) -> None:
    """Nothing that a client can send is an internal error."""
    with suppress(MalformedRequest, InvalidRequest):
        assert isinstance(decode(body), dict)


@pytest.mark.parametrize(
    "body",
    [b"", b" ", b"{", b'{"a":}', b"{}{}", b'{"a":1,}', b"{'a':1}", b"\xff\xfe{}", b'{"a":"\xff"}', b"nul"],
)
def test_what_is_no_json_is_malformed(body: bytes) -> None:
    """400: there is no field to name."""
    with pytest.raises(MalformedRequest):
        decode(body)


@pytest.mark.parametrize("body", [b"[]", b"1", b'"text"', b"null", b"true"])
def test_json_that_is_no_object_is_invalid(body: bytes) -> None:
    """422: well-formed, but not a request."""
    with pytest.raises(InvalidRequest, match="must be a JSON object"):
        decode(body)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"temperature": NaN}', "temperature"),
        (b'{"a": {"b": [1, Infinity]}}', "a.b[1]"),
        (b'{"a": -Infinity}', "a"),
        (b'{"seed": 1e999}', "seed"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "seed"),
        (b'{"seed": -' + b"9" * 5000 + b"}", "seed"),
        (b'{"messages": [{"content": "\\ud800"}]}', "messages[0].content"),
        (b'{"message": "a\\udc00b"}', "message"),
        (b'{"a": {"\\ud800": 1}}', "a"),
        (b'{"\\ud800": 1}', None),
    ],
)
def test_what_parses_elsewhere_and_fails_later_is_refused_by_name(body: bytes, param: str | None) -> None:
    """NaN, absurd numbers and half surrogate pairs would break the upstream's parser, or our own encoder."""
    with pytest.raises(InvalidRequest) as refused:
        decode(body)
    assert refused.value.param == param


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"x":', b"}")])
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 1000, 100_000])
def test_nesting_beyond_the_bound_is_named_however_deep_it_is(
    depth: int, opening: bytes, closing: bytes
) -> None:
    """Depth 100,000 breaks the parsers themselves; the answer is the same 422 as for 65."""
    inner = opening * (depth - 1) + b"1" + closing * (depth - 1)
    with pytest.raises(InvalidRequest, match="nested deeper than 64") as refused:
        decode(b'{"model": "m", "messages": ' + inner + b"}")
    assert refused.value.param == "messages"


def test_nesting_up_to_the_bound_is_taken() -> None:
    """64 levels, the object itself included; many brackets in a text or side by side do not count."""
    deepest = b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1)
    assert decode(b'{"a":' + deepest + b"}")["a"] is not None
    text = "[{" * 10_000 + '\\"' * 10
    assert decode(json.dumps({"a": text, "b": [[]] * 1000}).encode())["a"] == text


def test_more_values_than_the_bound_are_refused_before_they_are_made() -> None:
    """A body of a million tiny values would hold the event loop."""
    with pytest.raises(InvalidRequest, match="more than"):
        decode(b'{"a":[' + b"1," * (MAX_VALUES + 1) + b"1]}")
    with pytest.raises(InvalidRequest, match="more than"):
        decode(b'{"a":[' + b'"",' * (3 * MAX_VALUES) + b'""]}')


def test_commas_in_a_text_are_not_values() -> None:
    """A long text full of commas and escaped quotes is one value."""
    text = ',"\\' * MAX_VALUES + "," * MAX_VALUES
    assert decode(json.dumps({"message": text}).encode())["message"] == text


# -- types and bounds -----------------------------------------------------------------------
@pytest.mark.parametrize(
    "kind",
    [
        None,
        "application/json",
        "APPLICATION/JSON ; charset=UTF-8",
        'application/json;charset="utf-8"',
        "application/vnd.api+json",
    ],
)
@virtual
async def test_json_by_any_of_its_names_is_taken(kind: str | None) -> None:
    """Also without a content type: many a script sends none."""
    asked, _ = exchange(b'{"a": 1}', [("content-type", kind)] if kind else [])
    assert await read_json(asked, 100) == {"a": 1}


@pytest.mark.parametrize(
    "header",
    [
        ("content-type", "text/plain"),
        ("content-type", "application/x-www-form-urlencoded"),
        ("content-type", "multipart/form-data; boundary=x"),
        ("content-type", "application/jsonp"),
        ("content-type", "text/x+json"),
        ("content-type", "application/json; charset=utf-16"),
        ("content-encoding", "gzip"),
    ],
)
@virtual
async def test_what_is_not_plain_json_is_an_unsupported_media_type(header: tuple[str, str]) -> None:
    """415, before a byte of it is read."""
    asked, peer = exchange(b"{}", [header])
    with pytest.raises(UnsupportedMediaType):
        await read_json(asked, 100)
    assert (await peer.receive())["type"] == "http.request"


@virtual
async def test_a_body_in_pieces_is_put_together() -> None:
    """The network cuts anywhere."""
    asked, _ = exchange([b'{"mess', b"", b'age": "h\xc3', b'\xa4"}'])
    assert await read_json(asked, 100) == {"message": "hä"}


@virtual
async def test_a_body_of_exactly_the_limit_is_taken_and_one_byte_more_is_not() -> None:
    """413 however its length becomes known: announced or counted."""
    body = b'{"a": "' + b"x" * 91 + b'"}'
    asked, _ = exchange(body, [("content-length", "100")])
    assert len((await read_json(asked, 100))["a"]) == 91
    for headers in ([("content-length", "101")], []):
        asked, peer = exchange([body, b" "], headers)
        with pytest.raises(BodyTooLarge):
            await read_json(asked, 100)
        # It has been read to its end, so that its sender gets to read the answer.
        peer.leave()
        assert (await peer.receive())["type"] == "http.disconnect"


@virtual
async def test_a_body_that_is_too_large_and_does_not_end_is_answered_all_the_same() -> None:
    """One moment of patience, not the sender's whole upload."""
    for headers in ({"content-length": "1000"}, {}):
        peer = Peer("POST", "/chat", headers=headers, body=b"x" * 101, unfinished=True)
        with pytest.raises(BodyTooLarge):
            await read_json(Exchange(peer.scope, peer.receive, peer.send), 100)


@virtual
async def test_a_sender_that_waits_to_be_invited_is_not_waited_for() -> None:
    """`Expect: 100-continue`: it is not going to send what has been refused."""
    headers = {"content-length": "1000", "expect": "100-Continue"}
    peer = Peer("POST", "/chat", headers=headers)

    async def never() -> dict[str, Any]:
        raise AssertionError("reading would invite the body")

    with pytest.raises(BodyTooLarge):
        await read_json(Exchange(peer.scope, never, peer.send), 100)


@virtual
async def test_a_body_that_does_not_arrive_is_a_timeout() -> None:
    """Nobody holds a connection open by sending a body byte by byte, or not at all."""
    peer = Peer("POST", "/chat", body=b"{", unfinished=True)
    asked_at = asyncio.get_running_loop().time()
    with pytest.raises(BodyTimeout) as refused:
        await read_json(Exchange(peer.scope, peer.receive, peer.send), 100)
    assert asyncio.get_running_loop().time() - asked_at == pytest.approx(BODY_TIMEOUT_S)
    assert refused.value.retryable


@pytest.mark.parametrize("length", ["5", "1000"])
@virtual
async def test_a_client_that_leaves_while_it_sends_is_nobody_to_answer(length: str) -> None:
    """Neither an error nor a request, whether its body was welcome or not."""
    asked, peer = exchange([b'{"a"', b""], [("content-length", length)])
    await peer.receive()
    peer.leave()
    with pytest.raises(ClientGone):
        await read_json(asked, 100)


def test_no_message_repeats_the_body() -> None:
    """I5: what a client sent is in no error."""
    for body in (b'{"message": "s3cret', b'{"s3cret": NaN}', b'["s3cret"]'):
        with pytest.raises(GatewayError) as refused:
            decode(body)
        assert "s3cret" not in refused.value.message
