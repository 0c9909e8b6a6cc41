"""The finished answer as it is shared: what the cache keeps and what a hit is served from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class SealedAnswer:
    """One complete upstream answer. Only complete answers are ever sealed."""

    key: str
    """The full sharing key: 16 hex digits of scope, 48 of digest."""
    epoch: int
    """The epoch its events were numbered under, so that cursors mean the same on a replay."""
    stored_at: float
    """Wall clock, in seconds since 1970: other processes and machines read it."""
    ttl_s: float
    chunks: tuple[bytes, ...]
    """The upstream's chunk objects, each JSON on one line, in order."""
    completion: bytes
    """The folded chat.completion object, JSON on one line."""
    prompt_tokens: int
    completion_tokens: int
    made_s: float = 0.0
    """Seconds of an LLM stream that it took."""
    views: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """What readers have made of it, kept so that the next one need not: no part of the answer."""

    @property
    def size(self) -> int:
        """Bytes of the chunks and the completion together."""
        return len(self.completion) + sum(map(len, self.chunks))

    def age(self, now: float) -> float:
        """Seconds since it was stored, by the wall clock `now`; 0 if that host's clock is ahead of ours."""
        return max(0.0, now - self.stored_at)

    def remaining_ttl(self, now: float) -> float:
        """Seconds for which it may still be served, by the wall clock `now`; never negative."""
        return max(0.0, self.ttl_s - self.age(now))
