"""One `chat.completion.chunk`: what the upstream sent, and the few facts the gateway needs of it."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from runtime.errors import UpstreamBadResponse
from runtime.nesting import may_be_too_deep, too_deep
from upstream.refusals import in_band

_decode: Final = msgspec.json.Decoder().decode
_NO_DELTA: Final[dict[str, Any]] = {}
_ONLY_CHOICE_0: Final = (0,)
# What a delta may carry that a reader would see, and the type that it must have.
_CONTENT: Final[dict[str, type]] = {
    "content": str,
    "reasoning_content": str,
    "reasoning": str,
    "tool_calls": list,
    "refusal": str,
    "function_call": dict,
    "audio": dict,
}


class Chunk(msgspec.Struct, frozen=True, gc=False):
    """A parsed chunk.

    (A msgspec struct: building a frozen dataclass costs seven times as much, per token. It is kept from
    the cycle collector, which would walk every chunk of every running answer; it can hold no cycle.)

    `raw` is the JSON object on one line, as the upstream sent it. `text`, `reasoning`, `tool_calls`
    and `finish_reason` speak of choice 0. `content` says that some choice's delta carries text,
    reasoning, tool calls, a refusal, a function call or audio. `seen` has the index of every choice
    in this chunk, `finished` of those that carry a finish reason.
    """

    raw: bytes
    text: str
    reasoning: str
    tool_calls: list[Any] | None
    finish_reason: str | None
    usage: dict[str, Any] | None
    content: bool
    seen: tuple[int, ...]
    finished: tuple[int, ...]

    @property
    def usage_only(self) -> bool:
        """True for the closing chunk that a client gets only if it asked for `include_usage`."""
        return self.usage is not None and not self.seen


def parse_chunk(raw: bytes) -> Chunk:
    """Read one chunk.

    Raises `UpstreamBadResponse` if `raw` is no chunk, and the `UpstreamError` that fits if it is an
    in-band error (an object with a top-level `error`).
    """
    try:
        fields = _decode(raw)
    except (ValueError, RecursionError):  # ValueError: msgspec's errors and UnicodeDecodeError
        raise UpstreamBadResponse from None
    if type(fields) is not dict or (may_be_too_deep(raw) and too_deep(fields)):
        raise UpstreamBadResponse
    if fields.get("error") is not None:
        raise in_band(fields["error"])
    usage = fields.get("usage")
    if usage is not None and type(usage) is not dict:
        raise UpstreamBadResponse
    choices = fields.get("choices")
    if type(choices) is not list:
        # Some upstreams send their usage without `choices`; without either it is no chunk.
        if "choices" in fields or usage is None:
            raise UpstreamBadResponse
        choices = []
    if b"\n" in raw or b"\r" in raw:
        # Valid JSON has line ends between its tokens only, where a blank means the same.
        raw = raw.replace(b"\r", b" ").replace(b"\n", b" ")
    return _read(raw, choices, usage)


def _read(raw: bytes, choices: list[Any], usage: dict[str, Any] | None) -> Chunk:
    if len(choices) == 1 and (text := _only_text(choices[0])) is not None:
        return Chunk(raw, text, "", None, None, usage, text != "", _ONLY_CHOICE_0, ())
    first: dict[str, Any] = _NO_DELTA
    finish_reason: str | None = None
    content = False
    seen: tuple[int, ...] = ()
    finished: tuple[int, ...] = ()
    for choice in choices:
        index, delta, reason = _choice(choice)
        seen = _ONLY_CHOICE_0 if index == 0 and not seen else (*seen, index)
        if reason:
            finished = (*finished, index)
        if _has_content(delta):
            content = True
        if index == 0:
            first, finish_reason = delta, reason or None
    return Chunk(
        raw,
        first.get("content") or "",
        first.get("reasoning_content") or first.get("reasoning") or "",
        first.get("tool_calls") or None,
        finish_reason,
        usage,
        content,
        seen,
        finished,
    )


def _only_text(choice: Any) -> str | None:
    """The text of choice 0 whose delta is that and nothing else: what nearly every chunk is."""
    if type(choice) is dict and choice.get("finish_reason") is None and choice.get("index") == 0:
        delta = choice.get("delta")
        if type(delta) is dict and len(delta) == 1 and type(choice["index"]) is int:
            text = delta.get("content")
            return text if type(text) is str else None
    return None


def _choice(choice: Any) -> tuple[int, dict[str, Any], str | None]:
    """Index, delta and finish reason of one choice."""
    if type(choice) is not dict:
        raise UpstreamBadResponse
    index = choice.get("index", 0)
    delta = choice.get("delta")
    reason = choice.get("finish_reason")
    if delta is None:
        delta = _NO_DELTA
    if type(index) is not int or index < 0 or type(delta) is not dict:
        raise UpstreamBadResponse
    if reason is not None and type(reason) is not str:
        raise UpstreamBadResponse
    return index, delta, reason


def _has_content(delta: dict[str, Any]) -> bool:
    """Whether a reader would see something of it; refuses fields of the wrong type on the way."""
    found = False
    for name, value in delta.items():
        if value is not None and name in _CONTENT:
            if type(value) is not _CONTENT[name]:
                raise UpstreamBadResponse
            if value:
                found = True
    return found
