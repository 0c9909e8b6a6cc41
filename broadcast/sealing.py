"""A finished log becomes a cached answer, and a cached answer becomes a log again."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from broadcast.broadcast import Broadcast
from broadcast.lifecycle import Phase
from broadcast.log import Log
from cache.answer import SealedAnswer
from cache.fastlane import FastLane
from processing.preparer import Prompt
from runtime.errors import GatewayError
from upstream.chunk import Chunk, parse_chunk
from upstream.fold import completion


class Sealing:
    """Only complete answers come here: failed, cancelled, empty and partial ones are never cached."""

    def __init__(self, lane: FastLane, ttl_s: float) -> None:
        self._lane = lane
        self._ttl_s = ttl_s

    def accepts(self, log: Log[Chunk], ttl_s: float | None) -> bool:
        """Is this an answer that the cache keeps?"""
        if self.ttl_s(ttl_s) <= 0 or log.seq == 0 or log.overflowed:
            return False
        # The fold is for those that may be kept: it takes its time.
        return self._lane.takes(log.size) and self._lane.takes(log.size + len(log.whole(completion)))

    @property
    def healthy(self) -> bool:
        """Will what is accepted now be stored? Redis may still fail to: that costs a miss later."""
        return self._lane.healthy

    def ttl_s(self, ttl_s: float | None) -> float:
        """The configured TTL, or a shorter one that preparation asked for."""
        return self._ttl_s if ttl_s is None else min(ttl_s, self._ttl_s)

    async def store(self, key: str, log: Log[Chunk], ttl_s: float | None) -> bool:
        """Store what was accepted; True if Redis has it. `ttl_s` shortens the configured TTL only."""
        return await self._lane.store(self.answer(key, log, ttl_s))

    def encoded(self, answer: SealedAnswer) -> bytes:
        """What is to be written, for whoever writes it; empty: nothing."""
        return self._lane.encoded(answer) or b""

    def hold(self, answer: SealedAnswer) -> None:
        """It is in Redis: share it in this process."""
        self._lane.hold(answer)

    def answer(self, key: str, log: Log[Chunk], ttl_s: float | None) -> SealedAnswer:
        """What the cache is to hold."""
        usage = next((chunk.usage for chunk in reversed(log.events) if chunk.usage), None) or {}
        return SealedAnswer(
            key=key,
            epoch=log.epoch,
            stored_at=time.time(),
            ttl_s=self.ttl_s(ttl_s),
            chunks=tuple(chunk.raw for chunk in log.events),
            completion=log.whole(completion),
            prompt_tokens=_count(usage.get("prompt_tokens")),
            completion_tokens=_count(usage.get("completion_tokens")),
            made_s=log.made_s,
        )


def aged(prompt: Prompt, broadcast: Broadcast[Chunk]) -> Prompt:
    """What preparation has found holds from then on, and not from the end of an answer that took its time."""
    prepared_at = broadcast.entered_at.get(Phase.IDLE)
    if prompt.ttl_s is None or prepared_at is None:
        return prompt
    return replace(prompt, ttl_s=prompt.ttl_s - (asyncio.get_running_loop().time() - prepared_at))


def log_of(answer: SealedAnswer) -> Log[Chunk] | None:
    """The same log as when it was live: same epoch, same events, same ids. Made once per answer.

    None if its chunks are no complete answer: whoever wrote that entry, it is a miss.
    """
    log: Log[Chunk] | None = answer.views.get("log")
    if log is None:
        try:
            chunks = [parse_chunk(raw) for raw in answer.chunks]
        except GatewayError:
            return None
        if not any(chunk.finished for chunk in chunks) or not any(chunk.content for chunk in chunks):
            return None
        log = answer.views["log"] = Log(answer.epoch)
        log.extend(chunks)
        log.end()
        log.made_s = answer.made_s
        log.preset(answer.completion)
    return log


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
