"""One chunk: what is read from it, and that nothing an upstream sends raises anything untyped."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import (
    UpstreamAuth,
    UpstreamBadResponse,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamRejected,
)
from upstream.chunk import parse_chunk
from upstream.errors import UpstreamUnavailable


def chunk_of(delta: Any = None, **choice: Any) -> bytes:
    return json.dumps({"choices": [{"index": 0, "delta": delta or {}, **choice}]}).encode()


def test_the_facts_of_an_ordinary_chunk() -> None:
    """Text, and nothing else."""
    raw = chunk_of({"content": "hi"}, finish_reason=None)
    chunk = parse_chunk(raw)
    assert (chunk.raw, chunk.text, chunk.reasoning, chunk.tool_calls) == (raw, "hi", "", None)
    assert (chunk.finish_reason, chunk.usage, chunk.content) == (None, None, True)
    assert (chunk.seen, chunk.finished, chunk.usage_only) == ((0,), (), False)


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "x"},
        {"reasoning_content": "x"},
        {"reasoning": "x"},
        {"tool_calls": [{"index": 0}]},
        {"refusal": "x"},
        {"function_call": {"arguments": "x"}},
        {"audio": {"data": "x"}},
    ],
)
def test_whatever_a_reader_would_see_is_content(delta: dict[str, Any]) -> None:
    """The first of these is the first token."""
    assert parse_chunk(chunk_of(delta)).content


@pytest.mark.parametrize(
    "delta", [{}, {"role": "assistant", "content": ""}, {"content": None}, {"tool_calls": []}]
)
def test_a_chunk_that_only_opens_or_closes_is_no_content(delta: dict[str, Any]) -> None:
    """A role is no token."""
    assert not parse_chunk(chunk_of(delta)).content


def test_the_usage_chunk_is_recognised() -> None:
    """It has usage and no choices, and it goes only to those who asked for it."""
    assert parse_chunk(b'{"choices":[],"usage":{"prompt_tokens":1}}').usage_only
    assert parse_chunk(b'{"usage":{"prompt_tokens":1}}').usage_only
    inline = parse_chunk(b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"a":1}}')
    assert inline.usage == {"a": 1}
    assert not inline.usage_only


def test_usage_null_is_no_usage() -> None:
    """OpenAI sends it in every chunk but the last."""
    assert parse_chunk(b'{"choices":[],"usage":null}').usage is None


def test_choices_are_told_apart_by_their_index() -> None:
    """Order in the list says nothing."""
    chunk = parse_chunk(
        b'{"choices":[{"index":1,"delta":{"content":"one"},"finish_reason":"stop"},'
        b'{"index":0,"delta":{"content":"nought"}}]}'
    )
    assert (chunk.text, chunk.finish_reason) == ("nought", None)
    assert (chunk.seen, chunk.finished) == ((1, 0), (1,))


def test_an_empty_finish_reason_is_none() -> None:
    """Some upstreams send "" until the end."""
    chunk = parse_chunk(chunk_of({"content": "x"}, finish_reason=""))
    assert (chunk.finish_reason, chunk.finished) == (None, ())


def test_a_chunk_over_several_lines_is_put_on_one() -> None:
    """It goes out again in one data line; what it means and how it is written stays."""
    chunk = parse_chunk(b'{"choices":\n[],\r\n"x": 1.50, "usage":\n{"n":\n1}}')
    assert b"\n" not in chunk.raw
    assert b"\r" not in chunk.raw
    assert json.loads(chunk.raw) == {"choices": [], "x": 1.5, "usage": {"n": 1}}
    assert b"1.50" in chunk.raw


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"nonsense",
        b"[]",
        b"null",
        b"7",
        b"{}",
        b'{"choices":null}',
        b'{"choices":{}}',
        b'{"choices":[1]}',
        b'{"choices":[{"index":"0"}]}',
        b'{"choices":[{"index":-1}]}',
        b'{"choices":[{"index":true}]}',
        b'{"choices":[{"delta":[]}]}',
        b'{"choices":[{"delta":{"content":1}}]}',
        b'{"choices":[{"delta":{"content":["a"]}}]}',
        b'{"choices":[{"delta":{"tool_calls":{}}}]}',
        b'{"choices":[{"delta":{"audio":"x"}}]}',
        b'{"choices":[{"finish_reason":1}]}',
        b'{"choices":[],"usage":[]}',
        b'{"choices":[],"x":NaN}',
        b'{"choices":[],"x":Infinity}',
        b'{"choices":[],"x":1e999}',
        b'{"choices":[],"x":' + b"9" * 5000 + b"}",
        b'{"choices":[],"x":"\\ud800"}',
        b'{"choices":[],"x":"\xff"}',
        b'{"choices":[],"x":' + b"[" * 100_000,
        b'{"choices":[],"x":' + b'{"a":' * 100_000,
        b'{"choices":[],"x":"a\nb"}',
    ],
)
def test_what_is_no_chunk_is_a_bad_response(raw: bytes) -> None:
    """Never another exception, however odd the bytes."""
    with pytest.raises(UpstreamBadResponse):
        parse_chunk(raw)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    ["choices", "delta", "content", "index", "usage", "error", "tool_calls", "code"]
                ),
                inner,
            )
        ),
    )
)
def test_any_json_is_a_chunk_or_a_typed_error(value: Any) -> None:
    """A hostile upstream gets no further than a typed error."""
    try:
        parse_chunk(json.dumps(value).encode())
    except UpstreamError:
        return


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 429}, UpstreamRateLimited),
        ({"code": "429"}, UpstreamRateLimited),
        ({"type": "rate_limit_error"}, UpstreamRateLimited),
        ({"code": 503}, UpstreamUnavailable),
        ({"type": "overloaded_error"}, UpstreamUnavailable),
        ({"code": "invalid_api_key"}, UpstreamAuth),
        ({"code": "context_length_exceeded"}, UpstreamRejected),
        ({"code": 500, "message": "secret"}, UpstreamError),
        ("secret", UpstreamError),
        (["secret"], UpstreamError),
        ({}, UpstreamError),
    ],
)
def test_an_error_in_the_stream_is_raised_by_its_type(error: Any, kind: type[UpstreamError]) -> None:
    """And its text stays here."""
    with pytest.raises(UpstreamError) as caught:
        parse_chunk(json.dumps({"error": error}).encode())
    assert type(caught.value) is kind
    assert "secret" not in str(caught.value)


def test_an_error_of_null_is_none() -> None:
    """Some upstreams write the field always."""
    assert parse_chunk(b'{"choices":[],"error":null}').raw
