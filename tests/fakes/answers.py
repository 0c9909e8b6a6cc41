"""Sealed answers to test with."""

from __future__ import annotations

import time

from cache.answer import SealedAnswer

SCOPE = "5c0be5c0be5c0be5"


def key(number: int, scope: str = SCOPE) -> str:
    """A sharing key of the real form."""
    return f"{scope}{number:048x}"


def answer(
    number: int = 0, *, text: bytes = b"hello", ttl_s: float = 600.0, scope: str = SCOPE
) -> SealedAnswer:
    """A small answer, told from others by its key and its epoch."""
    return SealedAnswer(
        key=key(number, scope),
        epoch=1_700_000_000_000 + number,
        stored_at=time.time(),
        ttl_s=ttl_s,
        chunks=(b'{"text":"' + text + b'"}', b'{"finish_reason":"stop"}'),
        completion=b'{"content":"' + text + b'"}',
        prompt_tokens=3,
        completion_tokens=1,
        made_s=1.25,
    )
