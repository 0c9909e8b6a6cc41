"""An answer that is there already, as chunks.

A further call that only repeats what was said would cost a permit, tokens and time, and might say something
else.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from processing.preparer import Prompt, Turn
from upstream.chunk import Chunk, parse_chunk


class Ready:
    """Nobody needs to be asked: the broadcast takes these chunks and is complete."""

    def __init__(self, chunks: tuple[Chunk, ...], otherwise: Prompt) -> None:
        self.chunks = chunks
        self.otherwise = otherwise

    @asynccontextmanager
    async def stream(self, turn: Turn) -> AsyncIterator[AsyncIterator[list[Chunk]]]:
        yield self._all()

    async def _all(self) -> AsyncIterator[list[Chunk]]:
        yield list(self.chunks)


def chunks(
    model: str | None,
    deltas: Iterable[Mapping[str, Any]],
    finish_reason: str,
    usage: Mapping[str, Any] | None,
) -> tuple[Chunk, ...]:
    """As a model would have streamed it: the deltas, the end, and what it used, if that is known."""
    head = {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": model,
    }
    parts: list[Mapping[str, Any]] = [{"choices": [_choice(delta)]} for delta in deltas]
    parts.append({"choices": [_choice({}, finish_reason)]})
    if usage is not None:
        parts.append({"choices": [], "usage": usage})
    return tuple(parse_chunk(msgspec.json.encode({**head, **part})) for part in parts)


def _choice(delta: Mapping[str, Any], finish_reason: str | None = None) -> Mapping[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish_reason}
