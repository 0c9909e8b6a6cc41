"""A finished log becomes a cached answer, and a cached answer becomes a log again."""

from __future__ import annotations

import time

from broadcast.log import Log
from cache.answer import SealedAnswer
from cache.fastlane import FastLane
from upstream.chunk import Chunk, parse_chunk
from upstream.fold import completion


class Sealing:
    """Only complete answers come here: failed, cancelled, empty and partial ones are never cached."""

    def __init__(self, lane: FastLane, ttl_s: float) -> None:
        self._lane = lane
        self._ttl_s = ttl_s

    @property
    def enabled(self) -> bool:
        return self._ttl_s > 0

    def accepts(self, log: Log[Chunk]) -> bool:
        """Would the cache take this log now? Redis may still fail to: that costs a miss later."""
        return self.enabled and log.seq > 0 and not log.overflowed and self._lane.healthy

    async def store(self, key: str, log: Log[Chunk], ttl_s: float | None) -> bool:
        """True if Redis has it. `ttl_s` shortens the configured TTL, never lengthens it."""
        ttl = self._ttl_s if ttl_s is None else min(ttl_s, self._ttl_s)
        if ttl <= 0 or log.seq == 0 or log.overflowed:
            return False
        usage = next((chunk.usage for chunk in reversed(log.events) if chunk.usage), None) or {}
        answer = SealedAnswer(
            key=key,
            epoch=log.epoch,
            stored_at=time.time(),
            ttl_s=ttl,
            chunks=tuple(chunk.raw for chunk in log.events),
            completion=log.whole(completion),
            prompt_tokens=_count(usage.get("prompt_tokens")),
            completion_tokens=_count(usage.get("completion_tokens")),
        )
        return await self._lane.store(answer)


def log_of(answer: SealedAnswer) -> Log[Chunk]:
    """The same log as when it was live: same epoch, same events, same ids. Made once per answer."""
    log: Log[Chunk] | None = answer.views.get("log")
    if log is None:
        log = answer.views["log"] = Log(answer.epoch)
        log.extend([parse_chunk(raw) for raw in answer.chunks])
        log.end()
        log.preset(answer.completion)
    return log


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
