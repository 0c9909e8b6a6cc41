"""The chunks of a finished answer, folded into the one `chat.completion` object that a plain call gets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Set
from typing import Any, Final

import msgspec

from runtime.errors import UpstreamBadResponse
from upstream.chunk import Chunk

# Fields of a delta that name something: some upstreams repeat them in each chunk.
_NAMES: Final = frozenset({"role", "type", "name", "id"})
# Fields of a chunk that are not copied: handled apart, or random padding of the stream alone.
_NOT_COPIED: Final = frozenset({"object", "choices", "usage", "obfuscation"})
# Deltas are shallow; what lies deeper is taken as it is instead of being merged.
_MAX_DEPTH: Final = 8


class _Text(list[str]):
    """The pieces of one string; joined once at the end, else a long answer costs quadratic time."""


class _Calls(dict[int, dict[str, Any]]):
    """Tool calls that are still being put together; `at` is the latest one of each `index`."""

    def __init__(self) -> None:
        super().__init__()
        self.at: dict[int, int] = {}


def completion(chunks: Iterable[Chunk]) -> bytes:
    """The JSON of the `chat.completion` object. Raises `UpstreamBadResponse` if it cannot be written."""
    top: dict[str, Any] = {"id": None, "object": "chat.completion", "created": None, "model": None}
    choices: defaultdict[int, _Choice] = defaultdict(_Choice)
    settled: Set[str] = _NOT_COPIED  # the fields that a further chunk cannot change
    usage: dict[str, Any] | None = None
    try:
        for chunk in chunks:
            fields = msgspec.json.decode(chunk.raw)
            if not fields.keys() <= settled:
                _copy_top(top, fields)
                settled = _NOT_COPIED | {name for name, value in top.items() if value}
            usage = fields.get("usage") or usage
            for choice in fields.get("choices", ()):
                choices[choice.get("index", 0)].add(choice)
        answer = {name: value for name, value in top.items() if value is not None}
        answer["choices"] = [choices[index].folded(index) for index in sorted(choices)]
        return msgspec.json.encode(answer | ({"usage": usage} if usage else {}))
    except RecursionError:
        raise UpstreamBadResponse from None


class _Choice:
    """One choice of the answer while its chunks are added."""

    def __init__(self) -> None:
        self._message: dict[str, Any] = {"role": None, "content": None}
        self._logprobs: dict[str, Any] | None = None
        self._rest: dict[str, Any] = {}

    def add(self, choice: dict[str, Any]) -> None:
        """Take in one chunk's part of this choice, as `chunk.parse_chunk` let it through."""
        _merge(self._message, choice.get("delta") or {})
        logprobs = choice.get("logprobs")
        if isinstance(logprobs, dict):
            self._logprobs = self._logprobs or {}
            _merge(self._logprobs, logprobs)
        for name, value in choice.items():
            if name not in ("index", "delta", "logprobs") and value is not None:
                self._rest[name] = value

    def folded(self, index: int) -> dict[str, Any]:
        message = _settled(self._message)
        message["role"] = message["role"] or "assistant"
        parts = {"index": index, "message": message, "logprobs": _settled(self._logprobs)}
        return parts | {"finish_reason": None} | self._rest


def _copy_top(top: dict[str, Any], fields: dict[str, Any]) -> None:
    """The first value that says something wins: some upstreams begin with an empty `id` and `model`."""
    for name, value in fields.items():
        if name not in _NOT_COPIED and not top.get(name) and value is not None:
            top[name] = value


def _merge(into: dict[str, Any], delta: dict[str, Any], depth: int = 0) -> None:
    for name, value in delta.items():
        if value is not None:
            into[name] = _joined(name, into.get(name), value, depth)


def _joined(name: str, old: Any, new: Any, depth: int) -> Any:
    """`old` with `new` added: text and lists grow, objects are merged, anything else is replaced."""
    if isinstance(new, str):
        pieces = old if isinstance(old, _Text) else _Text()
        if not (name in _NAMES and pieces == [new]):
            pieces.append(new)
        return pieces
    if name == "tool_calls" and isinstance(new, list):
        calls = old if isinstance(old, _Calls) else _Calls()
        for position, piece in enumerate(new):
            _add_call(calls, position, piece)
        return calls
    if isinstance(new, list):
        if type(old) is not list:
            return new
        old.extend(new)
        return old
    if isinstance(new, dict) and depth < _MAX_DEPTH:
        grown = old if isinstance(old, dict) else {}
        _merge(grown, new, depth + 1)
        return grown
    return new


def _add_call(calls: _Calls, position: int, piece: Any) -> None:
    """Merge a piece of a tool call into the call with its `index`; without one, its place says which.

    Some servers give every call the same index, or none, and send each in a chunk of its own.
    """
    if not isinstance(piece, dict):
        return
    index = piece.get("index")
    index = index if isinstance(index, int) else position
    if _begins_another(calls.get(calls.at.get(index, -1)), piece):
        calls.at[index] = len(calls)
    call = calls.setdefault(calls.at[index], {})
    _merge(call, {name: value for name, value in piece.items() if name != "index"})


def _begins_another(call: dict[str, Any] | None, piece: dict[str, Any]) -> bool:
    """An id that is not that of the call, and a name: a server that makes up ids does not repeat the name."""
    if call is None:
        return True
    function = piece.get("function")
    named = isinstance(function, dict) and bool(function.get("name"))
    return named and bool(piece.get("id")) and bool(call.get("id")) and call["id"] != [piece["id"]]


def _settled(value: Any) -> Any:
    """`value` with its pieces joined and its tool calls as the list that a plain answer has."""
    if isinstance(value, _Text):
        return "".join(value)
    if isinstance(value, _Calls):
        return [_settled(call) for call in value.values()]
    if isinstance(value, dict):
        return {name: _settled(item) for name, item in value.items()}
    return value
