"""What a model asks for: the calls in its reply, read with suspicion, and what goes back to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from processing.tools.tool import MAX_ARGUMENTS, NAME
from runtime.nesting import may_be_too_deep, too_deep

#: Stands in a message where a name was that no model server takes back.
_NAMELESS: Final = "unknown"
_MAX_ID: Final = 128


@dataclass(frozen=True, slots=True)
class Call:
    """`id` is unique within the message; `name` and `arguments` are what the model said."""

    id: str
    name: str
    arguments: str

    @property
    def echo(self) -> dict[str, Any]:
        """As it goes back. Model servers read it again, and refuse a request whose call they cannot read."""
        function = {"name": self.name, "arguments": self.arguments if _is_object(self.arguments) else "{}"}
        return {"id": self.id, "type": "function", "function": function}


def calls_of(message: Mapping[str, Any]) -> list[Call]:
    """In the order of the message. Whatever is missing or doubtful is replaced, nothing is left out."""
    listed = message.get("tool_calls")
    calls: list[Call] = []
    taken: set[str] = set()
    for position, piece in enumerate(listed if isinstance(listed, list) else ()):
        call = piece if isinstance(piece, dict) else {}
        function = call.get("function")
        function = function if isinstance(function, dict) else {}
        calls.append(Call(_id(call.get("id"), position, taken), _name(function), _arguments(function)))
    return calls


def echo(message: Mapping[str, Any], calls: Sequence[Call]) -> dict[str, Any]:
    """The model's own message, without what only this server would understand."""
    said = message.get("content")
    content = said if isinstance(said, str) and said else None
    return {"role": "assistant", "content": content, "tool_calls": [call.echo for call in calls]}


def _id(given: object, position: int, taken: set[str]) -> str:
    usable = isinstance(given, str) and 0 < len(given) <= _MAX_ID and given.isprintable()
    id = str(given) if usable and given not in taken else f"call_{position}"
    while id in taken:
        id += "_"
    taken.add(id)
    return id


def _name(function: Mapping[str, Any]) -> str:
    name = function.get("name")
    return name if isinstance(name, str) and NAME.fullmatch(name) else _NAMELESS


def _arguments(function: Mapping[str, Any]) -> str:
    """Some servers stream an object where the others have its JSON."""
    given = function.get("arguments")
    if isinstance(given, str):
        return given
    if given is None:
        return ""
    try:
        return msgspec.json.encode(given).decode()
    except (TypeError, ValueError, RecursionError):
        return ""


def _is_object(text: str) -> bool:
    if len(text) > MAX_ARGUMENTS:
        return False
    try:
        raw = text.encode()
        value = msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and not (may_be_too_deep(raw) and too_deep(value))
