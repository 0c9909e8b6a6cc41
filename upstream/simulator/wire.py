"""The OpenAI shapes of one answer: stream chunks as server-sent events, and the whole completion."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from upstream.simulator.script import Delta

DONE = b"data: [DONE]\n\n"
GARBAGE = b"<html>This is simulated garbage, not JSON.</html>"
ROLE: Delta = {"role": "assistant", "content": ""}
Usage = dict[str, int]


@dataclass(frozen=True, slots=True)
class Head:
    """What all chunks of one answer have in common. `choices` is the request's `n`."""

    id: str
    model: str
    choices: int

    def fields(self, kind: str) -> dict[str, Any]:
        # `created` is a record for people, hence wall time.
        return {"id": self.id, "object": kind, "created": int(time.time()), "model": self.model}


class ChunkForm:
    """Makes the events of one stream. What all its chunks share is encoded once, not for each token."""

    def __init__(self, head: Head, with_usage: bool) -> None:
        self._start = event(head.fields("chat.completion.chunk"))[:-3] + b',"choices":['
        self._indexes = range(head.choices)
        self._no_usage = b',"usage":null}\n\n' if with_usage else b"}\n\n"

    def delta(self, delta: Delta) -> bytes:
        """One event for each choice."""
        encoded = msgspec.json.encode(delta)
        return b"".join(self._chunk(index, encoded) + self._no_usage for index in self._indexes)

    def finish(self, reason: str, usage: Usage | None) -> bytes:
        """The finish chunk of each choice; `usage`, if any, rides on the last."""
        finish = msgspec.json.encode(reason)
        chunks = [self._chunk(index, b"{}", finish) + self._no_usage for index in self._indexes]
        if usage is not None:
            chunks[-1] = self._chunk(self._indexes[-1], b"{}", finish) + _usage_field(usage)
        return b"".join(chunks)

    def usage(self, usage: Usage) -> bytes:
        """The extra chunk without choices that `include_usage` asks for."""
        return self._start + b"]" + _usage_field(usage)

    def _chunk(self, index: int, delta: bytes, finish: bytes = b"null") -> bytes:
        return b'%b{"index":%d,"delta":%b,"logprobs":null,"finish_reason":%b}]' % (
            self._start,
            index,
            delta,
            finish,
        )


def event(value: object) -> bytes:
    """One server-sent event with JSON data, which never contains a raw line break."""
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def _usage_field(usage: Usage) -> bytes:
    return b',"usage":' + msgspec.json.encode(usage) + b"}\n\n"


def completion(head: Head, deltas: Sequence[Delta], finish_reason: str, usage: Usage) -> dict[str, Any]:
    """The `chat.completion` object of an answer that was not streamed."""
    message = _message(deltas)
    choices = [
        {"index": index, "message": message, "logprobs": None, "finish_reason": finish_reason}
        for index in range(head.choices)
    ]
    return {**head.fields("chat.completion"), "choices": choices, "usage": usage}


def _message(deltas: Sequence[Delta]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": _joined(deltas, "content")}
    if reasoning := _joined(deltas, "reasoning_content"):
        message["reasoning_content"] = reasoning
    if calls := _calls(deltas):
        message["content"] = None
        message["tool_calls"] = calls
    return message


def _calls(deltas: Sequence[Delta]) -> list[dict[str, Any]]:
    """The calls whose heads and arguments the deltas carry, put together again."""
    calls: list[dict[str, Any]] = []
    for piece in (piece for delta in deltas for piece in delta.get("tool_calls", ())):
        if "id" in piece:
            calls.append({"id": piece["id"], "type": "function", "function": dict(piece["function"])})
        else:
            calls[-1]["function"]["arguments"] += piece["function"]["arguments"]
    return calls


def _joined(deltas: Sequence[Delta], field: str) -> str:
    return "".join(delta.get(field, "") for delta in deltas)
