"""What the preparation has to say of itself: a chunk before the model's own, kept and shared like them.

It carries a field of ours, `refrain`, and an empty delta: clients that do not know it see nothing, and a
plain answer folds it into the object.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from upstream.chunk import Chunk, parse_chunk

FIELD: Final = "refrain"
_MARK: Final = b'{"refrain":'


def preface(model: str | None, account: Mapping[str, Any], before: Sequence[Chunk] = ()) -> Chunk:
    """`account`, and what is told `before` it, as a chunk of an answer by `model`.

    It is one chunk, since a plain answer has room for one: of a field that two chunks have, the first counts.
    """
    head = {
        FIELD: {**account_of(before), **account},
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, "delta": {}, "finish_reason": None}],
    }
    return parse_chunk(msgspec.json.encode(head))


def beside(prefaces: Sequence[Chunk], first: Chunk) -> list[Chunk]:
    """The same with the identity of the answer that they precede: a stream has one `id`."""
    head = msgspec.json.decode(first.raw)
    named = {name: head[name] for name in ("id", "created") if head.get(name)}
    return [parse_chunk(msgspec.json.encode(msgspec.json.decode(each.raw) | named)) for each in prefaces]


def account_of(chunks: Sequence[Chunk]) -> dict[str, Any]:
    """What the preface of an answer says, `{}` if it has none: `tools`, `workflow`."""
    if not chunks or not chunks[0].raw.startswith(_MARK):
        return {}
    account: dict[str, Any] = msgspec.json.decode(chunks[0].raw)[FIELD]
    return account
