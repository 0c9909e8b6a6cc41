"""Which tools the simulated model calls, and with what. Pure, and content with whatever stands in `tools`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from upstream.simulator.answers import last_user_text, since_last_user
from upstream.simulator.directive import Directive, without_directives
from upstream.simulator.request import ChatRequest


@dataclass(frozen=True, slots=True)
class Chosen:
    """One call. `arguments` go out as they are, in pieces of `cut` characters."""

    name: str
    arguments: str


def chosen_tools(request: ChatRequest, directive: Directive) -> list[Chosen]:
    """What the model calls instead of answering; empty: it answers.

    Raises `Refusal` (400) for `calls` that cannot be read, also when they would not be made.
    """
    scripted = [Chosen(name, arguments) for name, arguments in directive.scripted_calls()]
    tools = request.tools_on_offer
    if not tools:
        return []
    after = since_last_user(request.messages)
    if directive.calls is not None:
        asked = sum(1 for message in after if message.get("tool_calls"))
        return scripted if asked < directive.rounds else []
    if directive.dictates or any(message.get("role") == "tool" for message in after):
        return []
    return _named(tools, without_directives(last_user_text(request.messages)))


def _named(tools: Sequence[Any], text: str) -> list[Chosen]:
    """The tools that the text names, in its order; the words that are no name become their arguments."""
    found: list[tuple[int, Mapping[str, Any]]] = []
    rest = text
    for function in filter(None, map(_function, tools)):
        pattern = re.compile(rf"(?<!\w){_spelt(function['name'])}(?!\w)", re.IGNORECASE)
        if match := pattern.search(text):
            found.append((match.start(), function))
            rest = pattern.sub(" ", rest)
    words = [word for word in (word.strip(".,;:!?\"'()") for word in rest.split()) if word]
    found.sort(key=lambda pair: pair[0])
    return [Chosen(function["name"], _arguments(function.get("parameters"), words)) for _, function in found]


def _function(tool: object) -> Mapping[str, Any] | None:
    function = tool.get("function") if isinstance(tool, dict) else None
    named = isinstance(function, dict) and isinstance(function.get("name"), str) and function["name"]
    return function if named else None


def _spelt(name: str) -> str:
    return re.escape(name).replace("_", "[_ ]")


def _arguments(schema: object, words: Sequence[str]) -> str:
    """What is required: the last words as strings, in their order, and a plain value of every other type."""
    properties = schema.get("properties") if isinstance(schema, dict) else None
    required = schema.get("required") if isinstance(schema, dict) else None
    if not isinstance(properties, dict) or not isinstance(required, list):
        return "{}"
    kinds = {name: properties.get(name) for name in required if isinstance(name, str)}
    plain = {name: _plain(kind) for name, kind in kinds.items()}
    texts = [name for name, value in plain.items() if value is None]
    last = words[len(words) - len(texts) :] if len(words) > len(texts) else words
    plain |= {name: "?" for name in texts} | dict(zip(texts, last, strict=False))
    return msgspec.json.encode(plain).decode()


def _plain(kind: object) -> Any:
    """A value of that type, None where it is to be a text."""
    match kind:
        case {"enum": [first, *_]} | {"const": first}:
            return first
        case {"type": "integer" | "number"}:
            return 1
        case {"type": "boolean"}:
            return True
        case {"type": "array"}:
            return []
        case {"type": "object"}:
            return {}
    return None
