"""An answer that is there already: the chunks of a workflow that has no last step to ask a model for.

A further call that only repeats what was said would cost a permit, tokens and time, and might say something
else.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from processing.preparer import Prompt, Turn
from processing.workflows.record import Record
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


def chunks(model: str, pieces: Iterable[str], record: Record) -> tuple[Chunk, ...]:
    """As a model would have streamed it: the role, the pieces, the end, and what all the calls used."""
    top = {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": model,
    }
    return tuple(parse_chunk(msgspec.json.encode({**top, **rest})) for rest in _parts(pieces, record))


def _parts(pieces: Iterable[str], record: Record) -> Iterator[Mapping[str, Any]]:
    yield _choice({"role": "assistant", "content": ""})
    for piece in pieces:
        yield _choice({"content": piece})
    yield _choice({}, "stop")
    prompt, said = _tokens(record)
    usage = {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said}
    yield {"choices": [], "usage": usage}


def _choice(delta: Mapping[str, Any], finish_reason: str | None = None) -> Mapping[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


def _tokens(record: Record) -> tuple[int, int]:
    prompt = said = 0
    for step in record.steps:
        inner = _tokens(step.inner) if step.inner else (0, 0)
        prompt += step.cost.prompt_tokens + inner[0]
        said += step.cost.completion_tokens + inner[1]
    return prompt, said
