"""A call of the model in the words of OpenTelemetry's GenAI conventions: who is asked for what, what came."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from app.telemetry import names
from chatbot.record import finish_reason, usage
from upstream.chunk import Chunk

Value = str | int | float | Sequence[str]
_PORTS: Final = {"http": 80, "https": 443}
#: A caller may write anything into `model`, and an upstream into what it answers.
LONGEST: Final = 100
_Head = msgspec.json.Decoder(dict[str, Any])


class Called:
    """The upstream, as every call of it shows it."""

    def __init__(self, base_url: str, *, simulated: bool) -> None:
        parts = urlsplit(base_url)
        self._attributes: dict[str, Value] = {
            names.OPERATION: names.OPERATION_CHAT,
            names.PROVIDER: names.PROVIDER_SIMULATED if simulated else names.PROVIDER_OPENAI,
            names.REQUEST_STREAM: True,
            names.SERVER: parts.hostname or "",
            names.PORT: parts.port or _PORTS.get(parts.scheme, 0),
        }

    def as_span(self, model: object) -> tuple[str, dict[str, Value]]:
        """Name and attributes of the span of one call."""
        asked = _short(model) or "unknown"
        return names.CHAT.format(model=asked), {**self._attributes, names.REQUEST_MODEL: asked}


def answered(chunks: list[Chunk], first_s: float | None) -> dict[str, Value | None]:
    """What is told of an answer. `first_s`: seconds from the call to its first text."""
    head = _head(chunks)
    counts = usage(chunks) or {}
    reason = _short(finish_reason(chunks))
    return {
        names.RESPONSE_MODEL: _short(head.get("model")),
        names.RESPONSE_ID: _short(head.get("id")),
        names.FINISH_REASONS: None if reason is None else (reason,),
        names.INPUT_TOKENS: _count(counts.get("prompt_tokens")),
        names.OUTPUT_TOKENS: _count(counts.get("completion_tokens")),
        names.FIRST_CHUNK_S: None if first_s is None else round(first_s, 6),
    }


def _head(chunks: list[Chunk]) -> dict[str, Any]:
    """The first chunk names the model and the answer."""
    try:
        return _Head.decode(chunks[0].raw) if chunks else {}
    except (msgspec.MsgspecError, RecursionError):
        return {}


def _short(given: object) -> str | None:
    if not isinstance(given, str) or not given:
        return None
    return given[:LONGEST].encode("utf-8", "replace").decode()  # a half of a surrogate pair is no text


def _count(given: object) -> int | None:
    return given if isinstance(given, int) and not isinstance(given, bool) and given >= 0 else None
