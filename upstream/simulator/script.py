"""From a request, its directive and chance to the script of one answer. Pure: no time, no sockets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import chain
from typing import Any

import msgspec

from upstream.simulator.answers import answer_tokens, prompt_digest, prompt_tokens
from upstream.simulator.behaviour import Behaviour
from upstream.simulator.dice import Roll
from upstream.simulator.directive import Directive
from upstream.simulator.request import ChatRequest
from upstream.simulator.stats import Outcome
from upstream.simulator.tooling import Chosen, chosen_tools

Delta = dict[str, Any]


class Ending(Enum):
    """What comes after the last delta of a script."""

    FINISH = "finish reason, usage, [DONE]"
    TRUNCATE = "a clean end of the reply, without any of them"
    RESET = "the connection is cut"
    STALL = "nothing, for ever"
    ERROR_FRAME = "an error object inside the stream"
    GARBAGE = "data that is not JSON"

    @property
    def outcome(self) -> Outcome:
        return Outcome.COMPLETED if self is Ending.FINISH else Outcome.FAILED


@dataclass(frozen=True, slots=True)
class Script:
    """One answer: `deltas`, one per token, at their pace; then the ending.

    `ttft` is in seconds, `tps` in tokens per second, `hold_after` in deltas. `include_usage` asks for a
    usage chunk, `inline_usage` for the usage inside the finish chunk instead.
    """

    deltas: list[Delta]
    ending: Ending
    finish_reason: str
    usage: dict[str, int]
    include_usage: bool
    inline_usage: bool
    ttft: float
    tps: float
    hold: str | None
    hold_after: int


def write_script(request: ChatRequest, directive: Directive, behaviour: Behaviour, roll: Roll) -> Script:
    """Decide the whole answer. Raises `Refusal` (400) for a `text` that cannot be decoded."""
    deltas = _deltas(request, directive, behaviour)
    limit = request.token_limit
    capped = limit is not None and len(deltas) > limit
    deltas = deltas[:limit]
    place, ending = _ending(directive, behaviour, roll, len(deltas))
    if directive.cumulative and request.stream:
        deltas = list(_cumulative(deltas))
    return Script(
        deltas=deltas[:place],
        ending=ending,
        finish_reason="length" if capped else _finish_reason(deltas),
        usage=_usage(request, len(deltas)),
        include_usage=request.include_usage,
        inline_usage=directive.usage_inline,
        ttft=behaviour.ttft if directive.ttft is None else directive.ttft,
        tps=behaviour.tps if directive.tps is None else directive.tps,
        hold=directive.hold,
        hold_after=directive.hold_after,
    )


def _deltas(request: ChatRequest, directive: Directive, behaviour: Behaviour) -> list[Delta]:
    deltas: list[Delta] = []
    if directive.reasoning:
        deltas += [{"reasoning_content": word} for word in ("Let", " me", " think", " about", " that.")]
    exact = directive.exact_text()
    if directive.empty:
        return deltas
    if directive.tool:
        return deltas + _call(0, _first_tool(request), request, directive.cut)
    if chosen := chosen_tools(request, directive):
        calls = (_call(i, tool, request, directive.cut) for i, tool in enumerate(chosen))
        return deltas + list(chain.from_iterable(calls))
    if exact is not None:
        pieces = _pieces(exact, directive.cut)
    else:
        # One more than the caller's cap is enough to tell a capped answer from a finished one.
        wanted = directive.tokens or behaviour.tokens
        pieces = answer_tokens(request.messages, min(wanted, (request.token_limit or wanted) + 1))
    return deltas + [{"content": piece} for piece in pieces]


def _first_tool(request: ChatRequest) -> Chosen:
    """The first one on offer, asked for words of the answer."""
    query = "".join(answer_tokens(request.messages, 6))
    return Chosen(_tool_name(request.tools), msgspec.json.encode({"query": query}).decode())


def _call(index: int, tool: Chosen, request: ChatRequest, cut: int) -> list[Delta]:
    """A call as the wire has it: the head, then its arguments in pieces."""
    id = f"call_{prompt_digest(request.messages)}" + (f"_{index}" if index else "")
    first = {"index": index, "id": id, "type": "function", "function": {"name": tool.name, "arguments": ""}}
    pieces = [{"index": index, "function": {"arguments": piece}} for piece in _pieces(tool.arguments, cut)]
    return [{"tool_calls": [call]} for call in (first, *pieces)]


def _tool_name(tools: list[Any] | None) -> str:
    match tools:
        case [{"function": {"name": str(name)}}, *_]:
            return name
    return "simulated_lookup"


def _finish_reason(deltas: list[Delta]) -> str:
    return "tool_calls" if any("tool_calls" in delta for delta in deltas[-1:]) else "stop"


def _ending(directive: Directive, behaviour: Behaviour, roll: Roll, length: int) -> tuple[int, Ending]:
    """After how many deltas the script ends, and how. What the directive says goes before chance."""
    if directive.garbage:
        return 0, Ending.GARBAGE
    scripted = (
        (directive.truncate, Ending.TRUNCATE),
        (directive.reset, Ending.RESET),
        (directive.stall, Ending.STALL),
        (directive.error_frame, Ending.ERROR_FRAME),
    )
    for place, ending in scripted:
        if place is not None:
            return place, ending
    if roll.truncate < behaviour.truncate_rate:
        return roll.point(length), Ending.TRUNCATE
    if roll.stall < behaviour.stall_rate:
        return roll.point(length), Ending.STALL
    return length, Ending.FINISH


def _usage(request: ChatRequest, tokens: int) -> dict[str, int]:
    prompt, completion = prompt_tokens(request.messages), tokens * (request.n or 1)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _cumulative(deltas: list[Delta]) -> Iterator[Delta]:
    """Each content delta repeats all the content before it, as some upstreams do."""
    text = ""
    for delta in deltas:
        text += delta.get("content", "")
        yield {"content": text} if "content" in delta else delta


def _pieces(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]
