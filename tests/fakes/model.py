"""A model that is played by the test: it counts calls, checks permits and says what it is told to say.

A prompt is what the last message says, with `plan:` before it for a call of the llm_calls stage. One in
`by_hand` waits for the test, call by call; every other is answered at once. What a call says begins with
its own number, so that a text spliced from two calls, or taken from the wrong one, can be told.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from tests.fakes.turns import until
from upstream.chunk import Chunk, parse_chunk
from upstream.permit import LlmPermit, require

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def delta(text: str) -> Chunk:
    return _chunk({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]})


def role() -> Chunk:
    """What an answer opens with: a chunk without content."""
    return _chunk({"choices": [{"index": 0, "delta": {"role": "assistant"}, "finish_reason": None}]})


def finish() -> list[Chunk]:
    """How a complete answer ends: the finish reason, then the usage."""
    stop = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    return [_chunk(stop), _chunk({"choices": [], "usage": USAGE})]


def _chunk(fields: dict[str, Any]) -> Chunk:
    return parse_chunk(json.dumps(fields).encode())


class Call:
    """One call of the model. `said` is the text that has been sent, `open` until its block is left."""

    def __init__(self, number: int, stage: str, body: Mapping[str, Any]) -> None:
        self.number = number
        self.body = body
        self.prompt = ("plan:" if stage == "llm_calls" else "") + body["messages"][-1]["content"]
        self.said = ""
        self.open = True
        self._batches: asyncio.Queue[list[Chunk] | Exception | None] = asyncio.Queue()

    def __repr__(self) -> str:
        return f"<Call {self.number} {self.prompt!r} [{'open' if self.open else 'closed'}, {self.said!r}]>"

    def say(self, text: str) -> None:
        self.said += text
        self._batches.put_nowait([delta(text)])

    def open_with_role(self) -> None:
        self._batches.put_nowait([role()])

    def complete(self) -> None:
        self._batches.put_nowait(finish())
        self._batches.put_nowait(None)

    def fail(self, error: Exception) -> None:
        self._batches.put_nowait(error)

    async def batches(self) -> AsyncIterator[list[Chunk]]:
        while (batch := await self._batches.get()) is not None:
            if isinstance(batch, Exception):
                raise batch
            yield batch


class FakeModel:
    """Stands where `ModelClient` stands. `errors[prompt]` are raised by its next calls, before any chunk."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.by_hand: set[str] = set()
        self.errors: defaultdict[str, list[Exception]] = defaultdict(list)
        self.in_flight: dict[str, int] = {"llm_streams": 0, "llm_calls": 0}
        self.peak: dict[str, int] = dict(self.in_flight)

    @asynccontextmanager
    async def stream(
        self, permit: LlmPermit, body: Mapping[str, Any]
    ) -> AsyncIterator[AsyncIterator[list[Chunk]]]:
        require(permit)
        call = Call(len(self.calls) + 1, permit.stage, body)
        self.calls.append(call)
        self.in_flight[permit.stage] += 1
        self.peak[permit.stage] = max(self.peak[permit.stage], self.in_flight[permit.stage])
        try:
            await self._connect(call)
            try:
                yield call.batches()
            finally:
                await asyncio.sleep(0)  # a real one drains its connection, or waits for it to close
        finally:
            assert permit.held, "the permit was given back before the call had ended"
            self.in_flight[permit.stage] -= 1
            call.open = False

    def asked(self, prompt: str) -> list[Call]:
        """The calls that were made for it, in order."""
        return [call for call in self.calls if call.prompt == prompt]

    async def call(self, prompt: str, number: int = 1) -> Call:
        """The `number`th call for it, once it is there; it must come without a timer."""
        await until(lambda: len(self.asked(prompt)) >= number)
        return self.asked(prompt)[number - 1]

    async def _connect(self, call: Call) -> None:
        await asyncio.sleep(0)
        if self.errors[call.prompt]:
            raise self.errors[call.prompt].pop(0)
        if call.prompt not in self.by_hand:
            call.open_with_role()
            for text in (f"{call.number}:", f" answer to {call.prompt}"):
                call.say(text)
            call.complete()
