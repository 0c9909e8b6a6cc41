"""A chat request in its canonical form, whichever route it came by."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from admission import Priority


@dataclass(frozen=True, slots=True)
class CacheDirectives:
    """What the caller allows: RFC 9111's request directives, as far as they mean something here.

    `max_age_s` judges sealed answers only; a running one is always fresh.
    """

    no_store: bool = False
    no_cache: bool = False
    only_if_cached: bool = False
    max_age_s: float | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """`body` is what goes upstream: model, messages and every parameter, without the gateway's own fields.

    It is never changed after it was made: the sharing key, the leader and the log's readers rely on it.
    """

    body: dict[str, Any]
    priority: Priority = Priority.INTERACTIVE
    cache: CacheDirectives = field(default_factory=CacheDirectives)
    request_id: str | None = None
    conversation: str | None = None

    @property
    def shareable(self) -> bool:
        """Neither read, nor joined, nor written: several samples were asked for, or privacy."""
        return not self.cache.no_store and self.body.get("n", 1) in (1, None)
