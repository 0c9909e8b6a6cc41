"""Folding: the plain answer says, byte for byte, what the stream said."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import UpstreamBadResponse
from upstream.chunk import parse_chunk
from upstream.fold import completion

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def fold(*chunks: dict[str, Any]) -> dict[str, Any]:
    folded: dict[str, Any] = json.loads(
        completion([parse_chunk(json.dumps(chunk).encode()) for chunk in chunks])
    )
    return folded


def chunk_of(delta: dict[str, Any], index: int = 0, **choice: Any) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": index, "delta": delta, **choice}]}


def message_of(*deltas: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = fold(*(chunk_of(delta) for delta in deltas))["choices"][0]["message"]
    return message


@given(TEXT, st.lists(st.integers(0, 60), max_size=8))
def test_any_split_of_a_text_gives_the_same_content(text: str, cuts: list[int]) -> None:
    """Where the model cuts its words makes no difference."""
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:end] for start, end in pairwise(edges)]
    assert message_of(*({"content": piece} for piece in pieces))["content"] == text


def test_a_whole_answer() -> None:
    """The shape that OpenAI's plain answers have."""
    top = {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 5,
        "model": "m",
        "service_tier": "default",
    }
    folded = fold(
        top | {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None}]},
        top | {"choices": [{"index": 0, "delta": {"content": "Hel"}}], "obfuscation": "xyz"},
        top | {"choices": [{"index": 0, "delta": {"content": "lo"}}]},
        top | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "system_fingerprint": "f"},
        top | {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
    )
    assert folded == {
        "id": "c1",
        "object": "chat.completion",
        "created": 5,
        "model": "m",
        "service_tier": "default",
        "system_fingerprint": "f",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello"},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
    }


def test_tool_calls_are_put_together_by_their_index() -> None:
    """Pieces of two calls may alternate; the plain answer has no index in them."""
    message = message_of(
        {
            "tool_calls": [
                {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}
            ]
        },
        {
            "tool_calls": [
                {"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": "{"}}
            ]
        },
        {"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"arguments": '{"x":'}}]},
        {
            "tool_calls": [
                {"index": 1, "function": {"arguments": "}"}},
                {"index": 0, "function": {"arguments": "1}"}},
            ]
        },
    )
    assert message["content"] is None
    assert message["tool_calls"] == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]


def test_tool_calls_without_an_index_keep_their_place() -> None:
    """Some upstreams send all calls at once and number none."""
    calls = [{"id": "a", "function": {"name": "f"}}, {"id": "b", "function": {"name": "g"}}]
    assert message_of({"tool_calls": calls})["tool_calls"] == calls


@pytest.mark.parametrize("index", [{"index": 0}, {}], ids=["all are number 0", "none has a number"])
def test_calls_that_come_one_by_one_stay_apart(index: dict[str, int]) -> None:
    """Some servers send each call whole, in a chunk of its own; glued together they are no call any more."""
    calls: list[dict[str, Any]] = [
        {"id": id, "type": "function", "function": {"name": "f", "arguments": f'{{"of": "{id}"}}'}}
        for id in ("a", "b", "c")
    ]
    pieces = [{"tool_calls": [{**index, **call}]} for call in calls]
    assert message_of(*pieces)["tool_calls"] == calls


def test_a_piece_that_goes_on_belongs_to_the_latest_call_of_its_index() -> None:
    """And an id or a name that is only said again begins nothing."""
    begin = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}}
    message = message_of(
        {"tool_calls": [begin]},
        {"tool_calls": [{"index": 0, "id": "b", "function": {"name": "f", "arguments": "["}}]},
        {"tool_calls": [{"index": 0, "id": "b", "function": {"name": "f", "arguments": "1"}}]},
        {"tool_calls": [{"index": 0, "id": "made-up", "function": {"arguments": ","}}]},
        {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "2]"}}]},
    )
    assert [call["function"]["arguments"] for call in message["tool_calls"]] == ["{", "[1,2]"]


def test_names_that_are_repeated_are_not_doubled() -> None:
    """Role and name come with every chunk of some upstreams."""
    message = message_of(
        {"role": "assistant", "function_call": {"name": "f", "arguments": "1"}},
        {"role": "assistant", "function_call": {"name": "f", "arguments": "1"}},
    )
    assert message["role"] == "assistant"
    assert message["function_call"] == {"name": "f", "arguments": "11"}


def test_text_that_repeats_itself_stays() -> None:
    """Only names are taken for repetitions."""
    assert message_of({"content": "ha"}, {"content": "ha"})["content"] == "haha"


def test_unknown_text_grows_like_known_text() -> None:
    """Reasoning, refusals and what will be invented yet."""
    message = message_of({"reasoning_content": "a", "new": "x"}, {"reasoning_content": "b", "new": "y"})
    assert (message["reasoning_content"], message["new"]) == ("ab", "xy")


def test_logprobs_are_strung_together() -> None:
    """One entry per token, in order."""
    folded = fold(
        chunk_of({"content": "a"}, logprobs={"content": [{"token": "a"}], "refusal": None}),
        chunk_of({"content": "b"}, logprobs={"content": [{"token": "b"}]}),
    )
    assert folded["choices"][0]["logprobs"] == {"content": [{"token": "a"}, {"token": "b"}]}


def test_choices_are_sorted_by_index() -> None:
    """They arrive in any order."""
    folded = fold(
        chunk_of({"content": "one"}, 1), chunk_of({"content": "nought"}), chunk_of({"content": "!"}, 1)
    )
    texts = [(choice["index"], choice["message"]["content"]) for choice in folded["choices"]]
    assert texts == [(0, "nought"), (1, "one!")]


def test_the_last_usage_counts() -> None:
    """Some upstreams report it with every chunk, growing."""
    assert fold({"choices": [], "usage": {"n": 1}}, {"choices": [], "usage": {"n": 2}})["usage"] == {"n": 2}


def test_an_id_that_comes_late_is_found() -> None:
    """Some upstreams begin with an empty one."""
    assert fold({"id": "", "choices": []}, {"id": "late", "choices": []})["id"] == "late"


@pytest.mark.parametrize(
    "deltas",
    [
        [{"x": "text"}, {"x": ["list"]}, {"x": {"a": 1}}, {"x": 7}, {"x": "text"}],
        [{"x": {"a": "text"}}, {"x": {"a": {"b": "c"}}}],
        [{"tool_calls": ["no call"]}, {"tool_calls": [{"index": "odd"}]}, {"tool_calls": [{"index": [1]}]}],
    ],
)
def test_changing_types_never_raise(deltas: list[dict[str, Any]]) -> None:
    """A hostile stream folds to something, not to an exception."""
    assert message_of(*deltas)


def test_deep_nesting_is_kept_as_it_is() -> None:
    """As deep as a chunk may be; a deeper one is refused where it comes in."""
    deep: Any = "x"
    for _ in range(58):
        deep = {"a": deep}
    assert message_of({"x": deep})["x"] == deep
    for _ in range(600):
        deep = {"a": deep}
    with pytest.raises(UpstreamBadResponse):
        message_of({"x": deep})
