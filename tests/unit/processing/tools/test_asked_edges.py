"""A model's odd replies: what goes back to its server is always a message that it can read again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from processing.tools.asked import Call, calls_of, echo
from processing.tools.tool import MAX_ARGUMENTS


def ids(*given: object) -> list[str]:
    return [call.id for call in calls_of({"tool_calls": [{"id": each} for each in given]})]


def echoed(arguments: str) -> Any:
    return Call("c", "sleep", arguments).echo["function"]["arguments"]


def test_every_call_has_an_id_of_its_own() -> None:
    """Two results for one id cannot be told apart. A name that was made up may be taken, too."""
    assert ids("a", "a") == ["a", "call_1"]
    assert ids("call_1", "call_1", "call_2", "call_1_") == ["call_1", "call_1_", "call_2", "call_3"]
    assert ids("call_2", "x", "call_2") == ["call_2", "x", "call_2_"]


def test_an_id_has_its_longest_length() -> None:
    """What a server may send is kept as it came, one more is replaced."""
    assert ids("i" * 128, "i" * 129, "") == ["i" * 128, "call_1", "call_2"]


@pytest.mark.parametrize("content", ["", None, 3, ["text"]])
def test_a_message_without_text_has_no_content(content: object) -> None:
    """Some servers refuse an empty text beside calls, all of them take null."""
    assert echo({"content": content}, []) == {"role": "assistant", "content": None, "tool_calls": []}
    assert echo({"content": "so"}, [])["content"] == "so"


def test_arguments_go_back_up_to_the_length_that_is_read() -> None:
    """They are what the model said; longer ones were refused unread."""
    most = json.dumps({"a": "x" * (MAX_ARGUMENTS - 9)})
    assert len(most) == MAX_ARGUMENTS
    assert echoed(most) == most
    assert echoed(most[:-2] + 'x"}') == "{}"


def test_only_deep_arguments_are_dropped_not_wide_ones() -> None:
    """A list of a hundred lists is honest; a hundred lists in each other break whoever reads them."""
    wide = json.dumps({"a": [[]] * 100})
    assert echoed(wide) == wide
    assert echoed('{"a": ' + "[" * 100 + "]" * 100 + "}") == "{}"
    assert echoed("[]") == "{}"
