"""For upstreams that repeat the whole text in every chunk: turns repetition into growth.

Only used when the operator says that the upstream is like that. It is never guessed from the text,
since an honest model may well say "ha" and then "ha ha".
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from runtime.errors import UpstreamBadResponse
from upstream.chunk import Chunk, parse_chunk

_GROWING: Final = ("content", "reasoning_content", "reasoning", "refusal")


class Cumulative:
    """Remembers, per choice and field, the text so far of one answer."""

    def __init__(self) -> None:
        self._so_far: dict[tuple[int, str], str] = {}

    def growth(self, chunk: Chunk) -> Chunk:
        """The same chunk with only what is new in it; an empty text means that nothing is.

        Raises `UpstreamBadResponse` if a text does not begin with what came before: sending it on
        would send text twice.
        """
        fields = msgspec.json.decode(chunk.raw)
        for choice in fields.get("choices", ()):
            delta = choice.get("delta")
            if delta:
                self._shorten(choice.get("index", 0), delta)
        return parse_chunk(msgspec.json.encode(fields))

    def _shorten(self, index: int, delta: dict[str, Any]) -> None:
        for name in _GROWING:
            text = delta.get(name)
            if not text:
                continue
            before = self._so_far.get((index, name), "")
            if not text.startswith(before):
                raise UpstreamBadResponse("The model was expected to repeat its text, and did not.")
            self._so_far[index, name] = text
            delta[name] = text[len(before) :]
