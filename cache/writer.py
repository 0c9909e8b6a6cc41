"""The one loop that writes answers to the store, so that no request's end can cut a write in half.

It writes all that waits in one round trip. One by one, the distance of Redis would set how many answers a
second can be kept, and the queue would grow although Redis is well.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from cache.breaker import Breaker
from cache.errors import StoreDown, StoreRefused
from cache.patience import Patience
from cache.store import MAX_BATCH, AnswerStore, Entry

# What a slow line brings over within the second that a round trip may take.
BATCH_BYTES = 4 * 1024 * 1024
ROOM_BYTES = 64 * 1024 * 1024
PATIENCE_S = 1.0


@dataclass(eq=False, slots=True)
class _Write:
    entry: Entry
    taken: asyncio.Future[bool]

    @property
    def size(self) -> int:
        return len(self.entry.data)

    def settle(self, taken: bool) -> None:
        if not self.taken.done():
            self.taken.set_result(taken)


class Writer:
    """Writes in order of arrival while the breaker is closed."""

    def __init__(
        self,
        store: AnswerStore,
        breaker: Breaker,
        *,
        room_bytes: int = ROOM_BYTES,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._store = store
        self._breaker = breaker
        self._room_bytes = room_bytes
        self._waiting_bytes = 0
        self.overflowed = 0
        self._patience_s = patience_s
        self._waiting: deque[_Write] = deque()
        self._filled = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Writer {len(self._waiting)} waiting, {self._waiting_bytes} of {self._room_bytes} bytes>"

    async def put(self, key: str, data: bytes, ttl_s: float) -> bool:
        """Whether the store took it; False at once if there is no room or the store is in trouble.

        The wait in the queue has no bound of its own: it moves, or a round trip takes longer than a
        second, and then everybody who waits is told. A caller that is cancelled leaves its write in
        the queue: the answer is worth keeping.
        """
        if not self._breaker.closed:
            return False
        if self._waiting_bytes + len(data) > self._room_bytes:
            self.overflowed += 1
            return False
        write = _Write(Entry(key, data, ttl_s), asyncio.get_running_loop().create_future())
        self._waiting.append(write)
        self._waiting_bytes += len(data)
        self._filled.set()
        return await write.taken

    async def run(self) -> None:
        """Write for ever; an owned loop."""
        while True:
            while not self._waiting:
                self._filled.clear()
                await self._filled.wait()
            batch = self._take()
            timer = Patience(self._patience_s, partial(self._give_up, batch))
            try:
                await self._write(batch)
            finally:
                timer.cancel()
                # Also when this loop is cancelled: whoever waits is told, and never hangs.
                _settle(batch, False)

    def flush(self) -> None:
        """Give up everything that waits."""
        waiting, self._waiting, self._waiting_bytes = self._waiting, deque(), 0
        _settle(waiting, False)

    def _take(self) -> list[_Write]:
        """What waits, the oldest first: at least one, and what one round trip may carry."""
        batch: list[_Write] = []
        room = BATCH_BYTES
        while self._waiting and len(batch) < MAX_BATCH and (not batch or self._waiting[0].size <= room):
            write = self._waiting.popleft()
            self._waiting_bytes -= write.size
            room -= write.size
            batch.append(write)
        return batch

    def _give_up(self, batch: list[_Write]) -> None:
        _settle(batch, False)
        self.flush()

    async def _write(self, batch: list[_Write]) -> None:
        try:
            taken = await self._store.put_many([write.entry for write in batch])
        except StoreRefused:
            return
        except StoreDown as error:
            self._breaker.trip(str(error))
            return
        for write, kept in zip(batch, taken, strict=True):
            write.settle(kept)


def _settle(writes: Iterable[_Write], taken: bool) -> None:
    for write in writes:
        write.settle(taken)
