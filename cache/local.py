"""The in-process layer in front of Redis: the answers of the last seconds, found without an await.

It makes an answer visible the moment it is sealed, and takes the hottest keys off Redis. Entries are
at most 5 s old, which bounds how long a purge in Redis goes unnoticed here.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from cache.answer import SealedAnswer

MAX_AGE_S = 5.0
_ENTRY_OVERHEAD = 2048  # the objects around one answer, as measured with sys.getsizeof on CPython 3.11
_CHUNK_OVERHEAD = 400  # the objects around one chunk, raw and as its readers see it
_VIEWS = 3  # an answer that is read is there raw, parsed, and encoded for its readers


@dataclass(frozen=True, slots=True)
class LocalStats:
    """`held_bytes` includes what Python needs around the answers; it never exceeds `max_bytes`."""

    entries: int
    held_bytes: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class _Entry:
    answer: SealedAnswer
    cost: int
    expires_at: float  # the loop's clock


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


class LocalLayer:
    """Least recently used answers within `max_bytes`; 0 turns the layer off."""

    def __init__(
        self,
        max_bytes: int,
        *,
        clock: Callable[[], float] = _loop_time,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._wall = wall
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._held = 0

    def __repr__(self) -> str:
        return f"<LocalLayer {len(self._entries)} answers, {self._held} of {self._max_bytes} bytes>"

    def get(self, key: str) -> SealedAnswer | None:
        """The answer, if it is here, young enough and within its own TTL."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.expires_at <= self._clock():
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry.answer

    def put(self, answer: SealedAnswer) -> None:
        """Keep the answer, replacing what its key had; not if it is too large or its TTL is over."""
        self._drop(answer.key)
        cost = _VIEWS * answer.size + _ENTRY_OVERHEAD + _CHUNK_OVERHEAD * len(answer.chunks)
        lifetime = min(MAX_AGE_S, answer.remaining_ttl(self._wall()))
        if cost > self._max_bytes or lifetime <= 0:
            return
        self._entries[answer.key] = _Entry(answer, cost, self._clock() + lifetime)
        self._held += cost
        while self._held > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._held = 0

    def stats(self) -> LocalStats:
        return LocalStats(len(self._entries), self._held, self._max_bytes)

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._held -= entry.cost
