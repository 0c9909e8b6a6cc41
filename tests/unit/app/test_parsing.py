"""Bodies and headers become requests; whatever is wrong is named by its field."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admission import Priority
from app.exchange import Exchange
from app.parsing import Asked, native_request, openai_request, with_model
from chatbot.request import CacheDirectives
from runtime.errors import GatewayError, InvalidRequest
from tests.fakes.asgi import Peer

HI = [{"role": "user", "content": "hi"}]
OURS = ("priority", "cache", "request_id", "stream", "stream_options", "message")

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NATIVE_FIELDS = (
    "message", "messages", "model", "temperature", "max_tokens", "top_p", "stop", "seed", "user", "n",
    "conversation_id", "priority", "cache", "request_id", "stream", "anything_else",
)  # fmt: skip
OPENAI_FIELDS = (
    "messages", "model", "temperature", "n", "tools", "tool_choice", "stream", "stream_options", "metadata",
    "logit_bias", "priority", "cache", "response_format", "anything_else",
)  # fmt: skip


def exchange(headers: Sequence[tuple[str, str]] = ()) -> Exchange:
    peer = Peer("POST", headers=headers)
    return Exchange(peer.scope, peer.receive, peer.send)


def native(body: dict[str, Any], *headers: tuple[str, str]) -> Asked:
    return native_request(exchange(headers), body)


def openai(body: dict[str, Any], *headers: tuple[str, str]) -> Asked:
    return openai_request(exchange(headers), body)


# -- native ---------------------------------------------------------------------------------
def test_a_message_is_a_conversation_of_one() -> None:
    """The text goes upstream exactly as given, blanks around it included."""
    request = native({"message": "  hi\n"}).request
    assert request.body == {"messages": [{"role": "user", "content": "  hi\n"}]}
    assert (request.priority, request.cache, request.request_id) == (
        Priority.INTERACTIVE,
        CacheDirectives(),
        None,
    )


def test_the_gateways_own_fields_stay_here_and_all_others_go_upstream() -> None:
    """The model never sees ours; what we do not know is passed on untouched."""
    others = {"model": "m", "temperature": 0.5, "top_k": 3, "metadata": {"a": [1]}, "stop": ["x"]}
    ours = {"priority": "batch", "cache": True, "request_id": "r", "stream": True, "stream_options": {}}
    request = native({"messages": HI, **others, **ours}).request
    assert request.body == {"messages": HI, **others}
    assert (request.priority, request.request_id) == (Priority.BATCH, "r")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "message"),
        ({"message": None}, "message"),
        ({"message": ""}, "message"),
        ({"message": " \t\n\u3000"}, "message"),
        ({"message": 1}, "message"),
        ({"message": ["x"]}, "message"),
        ({"message": "x", "messages": HI}, "message"),
        ({"messages": []}, "messages"),
        ({"messages": "x"}, "messages"),
        ({"messages": {}}, "messages"),
        ({"messages": ["x"]}, "messages[0]"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
        ({"messages": [*HI, {"role": "user", "content": " "}]}, "messages[1].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": " "}]}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [1]}]}, "messages[0].tool_calls[0]"),
        ({"message": "x", "model": ""}, "model"),
        ({"message": "x", "model": 1}, "model"),
        ({"message": "x", "temperature": "0"}, "temperature"),
        ({"message": "x", "temperature": True}, "temperature"),
        ({"message": "x", "max_tokens": 1.5}, "max_tokens"),
        ({"message": "x", "stop": [1]}, "stop[0]"),
        ({"message": "x", "stop": 1}, "stop"),
        ({"message": "x", "seed": "1"}, "seed"),
        ({"message": "x", "priority": "high"}, "priority"),
        ({"message": "x", "cache": "no"}, "cache"),
        ({"message": "x", "cache": 0}, "cache"),
        ({"message": "x", "request_id": ""}, "request_id"),
        ({"message": "x", "request_id": "r" * 256}, "request_id"),
        ({"message": "x", "request_id": 1}, "request_id"),
        ({"message": "x", "n": 2}, "n"),
        ({"message": "x", "n": True}, "n"),
    ],
)
def test_what_is_wrong_with_a_native_body_is_named(body: dict[str, Any], param: str) -> None:
    """Row 85: 422, with the field as the client wrote it."""
    with pytest.raises(InvalidRequest) as refused:
        native(body)
    assert refused.value.param == param


@pytest.mark.parametrize(
    "last",
    [
        {"role": "assistant", "content": ""},
        {"role": "tool", "content": "", "tool_call_id": "c"},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
        {"role": "user", "content": [{"type": "text", "text": ""}, {"type": "text", "text": "x"}]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]},
    ],
)
def test_what_asks_something_without_a_text_is_taken(last: dict[str, Any]) -> None:
    """A picture, a tool's empty result, a prefix for the assistant: the model decides."""
    assert native({"messages": [*HI, last]}).request.body["messages"][-1] == last


def test_the_idempotency_key_is_a_request_id() -> None:
    """By header or by field; the field wins; bounded either way."""
    key = ("Idempotency-Key", "k")
    assert native({"message": "x"}, key).request.request_id == "k"
    assert native({"message": "x", "request_id": "r"}, key).request.request_id == "r"
    assert native({"message": "x"}, ("Idempotency-Key", "")).request.request_id is None
    assert native({"message": "x"}, ("Idempotency-Key", "k" * 255)).request.request_id == "k" * 255
    with pytest.raises(InvalidRequest) as refused:
        native({"message": "x"}, ("Idempotency-Key", "k" * 256))
    assert refused.value.param == "request_id"


# -- cache directives -----------------------------------------------------------------------
@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", CacheDirectives()),
        ("no-store", CacheDirectives(no_store=True)),
        ("No-Cache", CacheDirectives(no_cache=True)),
        ("only-if-cached", CacheDirectives(only_if_cached=True)),
        ("max-age=60", CacheDirectives(max_age_s=60.0)),
        ('max-age="0"', CacheDirectives(max_age_s=0.0)),
        (
            "no-cache , max-age = 5,only-if-cached",
            CacheDirectives(no_cache=True, max_age_s=5.0, only_if_cached=True),
        ),
        ("no-storefront, x-no-cache", CacheDirectives()),
        ("max-age=soon", CacheDirectives()),
    ],
)
def test_cache_control_is_read_as_http_has_it(header: str, expected: CacheDirectives) -> None:
    """Names in any case, lists, blanks; unknown directives are nothing."""
    assert native({"message": "x"}, ("Cache-Control", header)).request.cache == expected
    assert openai({"messages": HI}, ("Cache-Control", header)).request.cache == expected


def test_cache_control_lines_are_one_list() -> None:
    """A proxy that adds a line of its own must not hide the client's `no-store`."""
    lines = [("Cache-Control", "max-age=60"), ("cache-control", "no-store")]
    assert native({"message": "x"}, *lines).request.cache == CacheDirectives(no_store=True, max_age_s=60.0)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (False, CacheDirectives(no_store=True)),
        ("refresh", CacheDirectives(no_cache=True)),
        (True, CacheDirectives()),
        (None, CacheDirectives()),
    ],
)
def test_the_cache_field_says_the_same(field: object, expected: CacheDirectives) -> None:
    """On both wires, for clients that cannot set headers; either of the two is enough."""
    assert native({"message": "x", "cache": field}).request.cache == expected
    assert openai({"messages": HI, "cache": field}).request.cache == expected
    both = native({"message": "x", "cache": field}, ("cache-control", "no-store")).request.cache
    assert both.no_store


# -- OpenAI ---------------------------------------------------------------------------------
def test_an_openai_body_goes_upstream_as_it_is() -> None:
    """But for how the caller wants to be answered, and what is ours."""
    others = {"model": "m", "tools": [{"type": "function"}], "top_k": 3, "metadata": {"a": "b"}, "n": 3}
    asked = openai({"messages": HI, **others, "stream": True, "stream_options": {"include_usage": True}})
    assert asked.request.body == {"messages": HI, **others}
    assert (asked.stream, asked.include_usage) == (True, True)
    plain = openai({"messages": HI, "stream": None, "stream_options": None})
    assert (plain.stream, plain.include_usage, plain.request.body) == (False, False, {"messages": HI})


def test_only_our_own_values_of_shared_names_are_ours() -> None:
    """`priority` and `cache` mean something to other upstreams too."""
    ours = openai({"messages": HI, "priority": "batch", "cache": "refresh"}).request
    assert (ours.body, ours.priority) == ({"messages": HI}, Priority.BATCH)
    theirs = {"messages": HI, "priority": 5, "cache": {"ttl": 3}}
    request = openai(theirs).request
    assert (request.body, request.priority) == (theirs, Priority.INTERACTIVE)


def test_a_body_is_not_changed_by_reading_it() -> None:
    """It may be logged, retried or compared by whoever handed it over."""
    body = {"messages": HI, "stream": True, "stream_options": {}, "priority": "batch", "cache": False}
    before = dict(body)
    openai(body)
    assert body == before


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages[0].content"),
        ({"messages": HI, "stream": "yes"}, "stream"),
        ({"messages": HI, "stream_options": []}, "stream_options"),
        ({"messages": HI, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"messages": HI, "n": 0}, "n"),
        ({"messages": HI, "n": 129}, "n"),
        ({"messages": HI, "tools": [1]}, "tools[0]"),
        ({"messages": HI, "tool_choice": 1}, "tool_choice"),
        ({"messages": HI, "logit_bias": []}, "logit_bias"),
        ({"messages": HI, "metadata": 1}, "metadata"),
        ({"messages": HI, "max_completion_tokens": "1"}, "max_completion_tokens"),
    ],
)
def test_what_is_wrong_with_an_openai_body_is_named(body: dict[str, Any], param: str) -> None:
    """422 with `param`, in the SDKs' own terms."""
    with pytest.raises(InvalidRequest) as refused:
        openai(body)
    assert refused.value.param == param


def outcome(parse: Callable[[dict[str, Any]], Asked], body: dict[str, Any]) -> Asked | GatewayError:
    """What came of it: any other error is one."""
    try:
        return parse(body)
    except InvalidRequest as refused:
        return refused


# -- both -----------------------------------------------------------------------------------
@given(st.dictionaries(st.sampled_from(NATIVE_FIELDS), anything, max_size=4), st.booleans())
def test_any_native_body_is_a_request_or_a_refusal(body: dict[str, Any], with_message: bool) -> None:
    """Nothing that JSON can hold is an internal error, and nothing of ours reaches the model."""
    asked = outcome(native, {"message": "x"} | body if with_message else body)
    if isinstance(asked, GatewayError):
        assert asked.param
        return
    assert not set(OURS) & set(asked.request.body)
    assert asked.request.body["messages"]


@given(st.dictionaries(st.sampled_from(OPENAI_FIELDS), anything, max_size=4), st.booleans())
def test_any_openai_body_is_a_request_or_a_refusal(body: dict[str, Any], with_messages: bool) -> None:
    """The same, and every other field is exactly the caller's."""
    sent = {"messages": HI} | body if with_messages else body
    asked = outcome(openai, sent)
    if isinstance(asked, GatewayError):
        assert asked.param
        return
    kept = {name: value for name, value in sent.items() if name not in OURS}
    assert kept.items() <= asked.request.body.items()


def test_a_model_is_filled_in_and_nothing_else_is_touched() -> None:
    """The model comes first, whatever stood in its place; directives and id go along."""
    request = native({"message": "x", "request_id": "r", "priority": "batch", "model": None}).request
    filled = with_model(request, "m")
    assert filled.body == {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    assert (filled.priority, filled.cache, filled.request_id) == (
        request.priority,
        request.cache,
        request.request_id,
    )
