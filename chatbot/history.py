"""What a turn of a conversation is asked with, and what it leaves behind.

Tokens are estimated: a quarter of the UTF-8 bytes of a message's content, and four per message.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

Message = dict[str, Any]

#: Left for the answer where its request does not say how long it may be.
ANSWER_TOKENS: Final = 1024
_PER_MESSAGE: Final = 4
_SYSTEM: Final = ("system", "developer")
_encode: Final = msgspec.json.Encoder().encode


class Turn(msgspec.Struct, omit_defaults=True):
    """One that ended with a complete answer, as it is kept. `messages` are the new ones of its request."""

    id: str
    messages: list[Message]
    answer: str
    created_at: float
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None
    tool_calls: list[dict[str, Any]] | None = None

    def shown(self) -> dict[str, Any]:
        """As `GET /conversations/{id}` has it."""
        fields = ("id", "messages", "answer", "finish_reason", "usage", "created_at")
        seen = {name: getattr(self, name) for name in fields}
        return seen | ({"tool_calls": self.tool_calls} if self.tool_calls else {})

    def said(self) -> list[Message]:
        """As the model is told of it."""
        answer: Message = {"role": "assistant", "content": self.answer}
        if self.tool_calls:
            answer = {"role": "assistant", "content": self.answer or None, "tool_calls": self.tool_calls}
        return [*self.messages, answer]


_turn: Final = msgspec.json.Decoder(Turn)


def read(turns: Sequence[bytes]) -> list[Turn]:
    """Raises msgspec.MsgspecError."""
    return [_turn.decode(raw) for raw in turns]


def leave(
    id: str, request: dict[str, Any], created_at: float, completion: bytes, usage: dict[str, Any] | None
) -> bytes:
    """What stays of a turn with a complete answer: `completion` is that, `request` what was submitted."""
    choice = msgspec.json.decode(completion)["choices"][0]
    content = choice["message"].get("content")
    turn = Turn(
        id,
        new_ones(request),
        content if isinstance(content, str) else "",
        round(created_at, 3),
        choice.get("finish_reason"),
        usage,
        choice["message"].get("tool_calls") or None,
    )
    return _encode(turn)


def new_ones(request: dict[str, Any]) -> list[Message]:
    """What a request adds to its conversation: its instructions are its own."""
    return [message for message in request["messages"] if message.get("role") not in _SYSTEM]


def with_history(request: dict[str, Any], turns: Sequence[Turn], window: int) -> dict[str, Any]:
    """The same request with what was said before: as much of the latest as there is room for.

    Results of tools never go without their calls, a model refuses them: new ones take those along, whatever
    their size.
    """
    system = [message for message in request["messages"] if message.get("role") in _SYSTEM]
    new = new_ones(request)
    earlier = _inseparable(turns)
    if _answers_a_call(new, earlier):
        new = earlier.pop() + new
    room = window - _answer_tokens(request, window) - _tokens(system) - _tokens(new)
    before: list[Message] = []
    for said in reversed(earlier):
        room -= _tokens(said)
        if room < 0:
            break
        before = said + before
    return {**request, "messages": [*system, *before, *new]}


def _inseparable(turns: Sequence[Turn]) -> list[list[Message]]:
    """What is put in as a whole, or not at all. Results whose call is not kept any more are left out."""
    found: list[list[Message]] = []
    for turn in turns:
        said = turn.said()
        if _answers_a_call(said, found):
            found[-1] += said
        elif said[0].get("role") != "tool":
            found.append(said)
    return found


def _answers_a_call(said: list[Message], before: list[list[Message]]) -> bool:
    return bool(said and said[0].get("role") == "tool" and before and before[-1][-1].get("tool_calls"))


def _answer_tokens(request: dict[str, Any], window: int) -> int:
    """Many clients send the largest `max_tokens` there is: where prompt and answer can't both fit anyhow,
    that must not silently cost them their memory.
    """
    for name in ("max_tokens", "max_completion_tokens"):
        value = request.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return max(0, value) if value < window else window // 2
    return min(ANSWER_TOKENS, window // 2)


def _tokens(messages: Sequence[Message]) -> int:
    return sum(_PER_MESSAGE + -(-_bytes(message) // 4) for message in messages)


def _bytes(message: Message) -> int:
    content, calls = message.get("content"), message.get("tool_calls")
    size = len(content.encode("utf-8", "surrogatepass")) if isinstance(content, str) else 0
    if not isinstance(content, str) and content is not None:
        size = len(_encode(content))
    return size + (len(_encode(calls)) if calls else 0)
