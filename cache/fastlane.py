"""The cache's fast lane: a hit is served whatever the rest of the pipeline is doing.

It has workers and a waiting room of its own and takes no other stage's permit. A look-up costs at
most 100 ms in all; whatever goes wrong behind it, it is a miss and never an error.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from cache.answer import SealedAnswer
from cache.asks import Ask, WaitingRoom
from cache.batch import BatchSize
from cache.breaker import Breaker
from cache.codec import decode, encode
from cache.errors import StoreDown, StoreRefused
from cache.flights import Asking, Hit, Joined
from cache.local import LocalLayer
from cache.store import GET_TIMEOUT_S, AnswerStore
from cache.writer import Writer
from runtime.supervisor import Supervisor

log = logging.getLogger("refrain.cache")

LOOKUP_TIMEOUT_S = 0.1
#: More than an entry has beside the answer itself.
HEADER_BYTES = 512


@dataclass(frozen=True, slots=True)
class LaneStats:
    """One moment of the lane. `admitted` and `released` count the workers' round trips, so that at
    every moment `admitted == released + busy`.

    `hits_local`, `hits_redis` and `misses` count callers; `waiting`, `overflowed` and `expired` count
    questions, of which identical ones that wait at the same time are one.
    """

    capacity: int
    busy: int
    waiting: int
    max_waiting: int
    overflowed: int
    expired: int
    hits_local: int
    hits_redis: int
    misses: int
    admitted: int
    released: int
    oldest_wait_s: float


class Claims(Protocol):
    """The flights that several processes share. Not `up`: none can be claimed now."""

    @property
    def up(self) -> bool: ...

    async def join(self, asking: Asking, timeout_s: float) -> Joined: ...

    def unclaimed(self, key: str, joined: Joined | None) -> None:
        """Whoever asked has left meanwhile."""


class FastLane:
    """The in-process layer, then `store`. `on_wait(seconds)` is told each question's time in the queue,
    `on_error(op)` of values that cannot be encoded or decoded. With `enabled=False` there is no cache.
    """

    def __init__(
        self,
        store: AnswerStore,
        *,
        workers: int = 4,
        queue_size: int = 1000,
        local_bytes: int = 64 * 1024 * 1024,
        enabled: bool = True,
        claims: Claims | None = None,
        on_wait: Callable[[float], None] = lambda seconds: None,
        on_error: Callable[[str], None] = lambda op: None,
    ) -> None:
        self._store = store
        self._workers = workers
        self._open = True
        self._cached = enabled
        self._claims = claims
        self._on_wait = on_wait
        self._on_error = on_error
        self._local = LocalLayer(local_bytes)
        self._room = WaitingRoom(queue_size, LOOKUP_TIMEOUT_S)
        self._batch = BatchSize()
        self._breaker = Breaker(store.ping, on_open=self._flush)
        self._writer = Writer(store, self._breaker)
        self._loops: list[asyncio.Task[None]] = []
        self._busy = self._admitted = self._released = 0
        self._hits_local = self._hits_redis = self._misses = 0

    def __repr__(self) -> str:
        state = f"{self._busy}/{self._workers} busy, {len(self._room)} waiting"
        return f"<FastLane {state}, breaker {self._breaker.state}>"

    def start(self, supervisor: Supervisor) -> None:
        """Start the workers, the writer and the probe; the supervisor ends them."""
        if not self._cached and self._claims is None:
            return
        workers = {f"cache:worker-{number}": self._work() for number in range(self._workers)}
        loops = {"cache:probe": self._breaker.run(), "cache:writer": self._writer.run(), **workers}
        self._loops = [supervisor.own(name, loop) for name, loop in loops.items()]

    def close(self) -> None:
        """Answer everybody who waits, and every later look-up, with a miss. Idempotent."""
        self._open = False
        self._flush()
        self._local.clear()

    @property
    def healthy(self) -> bool:
        """False while Redis is in trouble: the breaker is not closed."""
        return self._breaker.closed

    def peek(self, key: str) -> SealedAnswer | None:
        """What the in-process layer has, at once."""
        answer = self._local.get(key)
        if answer is not None:
            self._hits_local += 1
        return answer

    async def lookup(self, key: str) -> SealedAnswer | None:
        """The answer stored under `key`, or None. Never raises, and never waits over 100 ms."""
        answer = self.peek(key)
        if answer is not None:
            return answer
        ask = self._room.join(key) if self._open and self._cached and self._breaker.closed else None
        if ask is not None:
            answer = await self._room.outcome(ask)
        if answer is None:
            self._misses += 1
        else:
            self._hits_redis += 1
        return answer

    async def claim(self, asking: Asking) -> Joined | SealedAnswer | None:
        """Look up, join or lead in one round trip, where several processes share their flights.

        None: not within 100 ms, or not at all; the claim may have been made all the same.
        """
        if not (self._open and self._breaker.closed):
            return None
        ask = self._room.enter(f"?{asking.key}", asking)
        joined: Joined | SealedAnswer | None = await self._room.outcome(ask) if ask is not None else None
        if isinstance(joined, SealedAnswer):
            self._hits_redis += 1
        else:
            self._misses += 1
        return joined

    async def store(self, answer: SealedAnswer) -> bool:
        """Share a sealed answer: in this process before the first await, then in Redis.

        Returns whether Redis took it; False at once if the cache is off or in trouble, the
        answer is too large, its TTL is over, or too many answers wait to be written.
        """
        data = self.encoded(answer)
        if data is None:
            return False
        self.hold(answer)
        self._batch.saw([data])
        return await self._writer.put(answer.key, data, answer.remaining_ttl(time.time()))

    def encoded(self, answer: SealedAnswer) -> bytes | None:
        """What Redis is to hold of it; None if it is not to be kept."""
        ttl_s = answer.remaining_ttl(time.time())
        data = self._encoded(answer) if self._open and self._cached and ttl_s > 0 else None
        return data if data is not None and len(data) <= self._store.max_entry_bytes else None

    def hold(self, answer: SealedAnswer) -> None:
        """Share it in this process."""
        self._local.put(answer)

    def takes(self, size: int) -> bool:
        """Is an answer of so many bytes one that this cache keeps?"""
        return self._open and self._cached and size + HEADER_BYTES <= self._store.max_entry_bytes

    def stats(self) -> LaneStats:
        """The lane as it is now; needs a running loop."""
        return LaneStats(
            capacity=self._workers,
            busy=self._busy,
            waiting=len(self._room),
            max_waiting=self._room.capacity,
            overflowed=self._room.overflowed,
            expired=self._room.expired,
            hits_local=self._hits_local,
            hits_redis=self._hits_redis,
            misses=self._misses,
            admitted=self._admitted,
            released=self._released,
            oldest_wait_s=self._room.oldest_wait(asyncio.get_running_loop().time()),
        )

    def _flush(self) -> None:
        self._room.flush()
        self._writer.flush()

    def _encoded(self, answer: SealedAnswer) -> bytes | None:
        try:
            return encode(answer)
        except ValueError:
            log.exception("an answer cannot be encoded", extra={"chunks": len(answer.chunks)})
            self._on_error("encode")
            return None

    async def _work(self) -> None:
        while True:
            asks = await self._room.take(self._batch.most)
            for ask in asks:
                self._on_wait(asyncio.get_running_loop().time() - ask.asked_at)
            await self._serve(asks)

    async def _serve(self, asks: list[Ask]) -> None:
        self._busy += 1
        self._admitted += 1
        try:
            await self._answer(asks)
        finally:
            # Also when this worker is cancelled: whoever asked gets a miss, never a hang.
            for ask in asks:
                ask.settle(None)
            self._busy -= 1
            self._released += 1

    async def _answer(self, asks: list[Ask]) -> None:
        questions = [ask for ask in asks if ask.question is not None]
        asks = [ask for ask in asks if ask.question is None]
        async with asyncio.TaskGroup() as group:
            for ask in questions:
                group.create_task(self._claim(ask))
            if asks:
                group.create_task(self._look_up(asks, [ask.key for ask in asks]))

    async def _claim(self, ask: Ask) -> None:
        assert self._claims is not None
        if not self._claims.up:
            await self._only_look_up(ask)
            return
        try:
            found = await self._join(self._claims, ask.question)
        except StoreRefused:
            await self._only_look_up(ask)
            return
        except StoreDown as error:
            self._breaker.trip(str(error))
            found = None
        if ask.waiters:
            ask.settle(found)
        elif not isinstance(found, SealedAnswer):
            self._claims.unclaimed(ask.question.key, found)

    async def _join(self, claims: Claims, question: Asking) -> Joined | SealedAnswer:
        joined = await claims.join(question, GET_TIMEOUT_S)
        if not isinstance(joined, Hit):
            return joined
        # No answer lies there: one leads, the others follow, and none is a hit elsewhere.
        again = replace(question, read_cache=False)
        return self._decoded(question.key, joined.value) or await claims.join(again, GET_TIMEOUT_S)

    async def _only_look_up(self, ask: Ask) -> None:
        """A server that takes no writes, being full or a replica, still has what it had."""
        if ask.question.read_cache and self._cached:
            await self._look_up([ask], [ask.question.key])

    async def _look_up(self, asks: list[Ask], keys: list[str]) -> None:
        try:
            values = await self._store.get_many(keys)
        except StoreRefused:
            return
        except StoreDown as error:
            self._batch.failed()
            self._breaker.trip(str(error))
            return
        self._batch.saw(values)
        for ask, key, data in zip(asks, keys, values, strict=True):
            if data is not None:
                ask.settle(self._decoded(key, data))

    def _decoded(self, key: str, data: bytes) -> SealedAnswer | None:
        if len(data) > self._store.max_entry_bytes or (answer := decode(data, key)) is None:
            self._on_error("decode")
            return None
        held = self._local.get(key)
        if held is not None and held.stored_at > answer.stored_at:
            return held  # it was sealed here while Redis was being asked
        self._local.put(answer)
        return answer
