"""A model's calls, read with suspicion: every one gets a result, and what goes back can be read again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from processing.tools.asked import Call, calls_of, echo


def function(name: object = "f", arguments: object = "{}", **rest: object) -> dict[str, Any]:
    return {"id": "a", "type": "function", "function": {"name": name, "arguments": arguments}, **rest}


def test_calls_are_read_in_their_order() -> None:
    """With the ids that the results are matched by."""
    message = {"tool_calls": [function(id="x"), function("g", '{"a": 1}', id="y")]}
    assert calls_of(message) == [Call("x", "f", "{}"), Call("y", "g", '{"a": 1}')]


@pytest.mark.parametrize("message", [{}, {"tool_calls": None}, {"tool_calls": []}, {"tool_calls": "x"}])
def test_a_message_without_calls_has_none(message: dict[str, Any]) -> None:
    """Whatever stands there instead."""
    assert calls_of(message) == []


@pytest.mark.parametrize(
    ("piece", "call"),
    [
        (None, Call("call_0", "unknown", "")),
        ({}, Call("call_0", "unknown", "")),
        ({"function": None}, Call("call_0", "unknown", "")),
        (function(id=None), Call("call_0", "f", "{}")),
        (function(id=""), Call("call_0", "f", "{}")),
        (function(id="x" * 129), Call("call_0", "f", "{}")),
        (function(id="a\nb"), Call("call_0", "f", "{}")),
        (function(name="not a name"), Call("a", "unknown", "{}")),
        (function(name=3), Call("a", "unknown", "{}")),
        (function(arguments={"a": 1}), Call("a", "f", '{"a":1}')),
        (function(arguments=None), Call("a", "f", "")),
        (function(arguments={"a": object()}), Call("a", "f", "")),
    ],
)
def test_what_is_missing_or_doubtful_is_replaced(piece: Any, call: Call) -> None:
    """A call that was left out would leave the conversation without its answer."""
    assert calls_of({"tool_calls": [piece]}) == [call]


def test_ids_are_unique() -> None:
    """Some servers give none, or the same to all."""
    message = {"tool_calls": [function(), function(), function(id="call_1"), function(id=None)]}
    ids = [call.id for call in calls_of(message)]
    assert ids[0] == "a"
    assert len(set(ids)) == 4


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ('{"a": 1}', '{"a": 1}'),
        ("", "{}"),
        ('{"cut', "{}"),
        ("[1]", "{}"),
        ('{"a":' * 100 + "1" + "}" * 100, "{}"),
        ('{"a":' + "[" * 30_000, "{}"),
        ("x" * 70_000, "{}"),
        ('{"a": "\ud800"}', "{}"),
    ],
)
def test_arguments_that_cannot_be_read_are_not_sent_back(arguments: str, sent: str) -> None:
    """Model servers parse them again, and answer 400 to the whole conversation if they cannot."""
    assert Call("a", "f", arguments).echo["function"] == {"name": "f", "arguments": sent}


def test_the_echo_is_the_models_own_message() -> None:
    """Its text and its calls, and nothing that only its server understands."""
    message = {"role": "assistant", "content": "I look.", "reasoning": "x", "tool_calls": [function()]}
    sent = echo(message, calls_of(message))
    assert sent == {"role": "assistant", "content": "I look.", "tool_calls": [function()]}
    assert json.dumps(echo({"content": ["odd"]}, [])) == (
        '{"role": "assistant", "content": null, "tool_calls": []}'
    )
