"""The name of a conversation, as the native wire takes it."""

from __future__ import annotations

from typing import Any

import pytest

from app.exchange import Exchange
from app.parsing import Asked, native_request, with_model
from runtime.errors import InvalidRequest


def native(body: dict[str, Any]) -> Asked:
    return native_request(Exchange({"headers": []}, receive, send), body)


async def receive() -> Any:
    raise AssertionError("parsing reads nothing more")


async def send(message: Any) -> None:
    raise AssertionError("nor does it answer")


def test_a_conversation_is_the_gateways_own() -> None:
    """The model never sees its name, so that two users with the same history share an answer."""
    request = native({"message": "x", "conversation_id": "a.B_c-1"}).request
    assert request.conversation == "a.B_c-1"
    assert request.body.keys() == {"messages"}
    assert with_model(request, "m").conversation == "a.B_c-1", "also where its model was left to us"
    assert native({"message": "x", "conversation_id": None}).request.conversation is None


@pytest.mark.parametrize("name", ["", "a b", "a/b", "é", "c" * 65, "c\n", 7, ["c"], True])
def test_a_conversations_name_is_a_word(name: object) -> None:
    """It stands in a path: whatever is none there is refused where it is first used."""
    with pytest.raises(InvalidRequest) as refused:
        native({"message": "x", "conversation_id": name})
    assert refused.value.param == "conversation_id"
