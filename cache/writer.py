"""The one loop that writes answers to the store, so that no request's end can cut a write in half."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from functools import partial

from cache.breaker import Breaker
from cache.errors import StoreDown, StoreRefused
from cache.patience import Patience
from cache.store import AnswerStore

ROOM = 64  # entries of at most max_entry_bytes each: this bounds the memory as well
PATIENCE_S = 1.0


@dataclass(eq=False, slots=True)
class _Write:
    key: str
    data: bytes
    ttl_s: float
    taken: asyncio.Future[bool]

    def settle(self, taken: bool) -> None:
        if not self.taken.done():
            self.taken.set_result(taken)


class Writer:
    """Writes in order of arrival while the breaker is closed."""

    def __init__(
        self, store: AnswerStore, breaker: Breaker, *, room: int = ROOM, patience_s: float = PATIENCE_S
    ) -> None:
        self._store = store
        self._breaker = breaker
        self._room = room
        self._patience_s = patience_s
        self._waiting: deque[_Write] = deque()
        self._filled = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Writer {len(self._waiting)} of {self._room} waiting>"

    async def put(self, key: str, data: bytes, ttl_s: float) -> bool:
        """Whether the store took it within the second; False at once if it is full or in trouble.

        A caller that is cancelled leaves its write in the queue: the answer is worth keeping.
        """
        if not self._breaker.closed or len(self._waiting) >= self._room:
            return False
        write = _Write(key, data, ttl_s, asyncio.get_running_loop().create_future())
        self._waiting.append(write)
        self._filled.set()
        timer = Patience(self._patience_s, partial(write.settle, False))
        try:
            return await write.taken
        finally:
            timer.cancel()

    async def run(self) -> None:
        """Write for ever; an owned loop."""
        while True:
            while not self._waiting:
                self._filled.clear()
                await self._filled.wait()
            await self._write(self._waiting.popleft())

    def flush(self) -> None:
        """Give up everything that waits."""
        waiting, self._waiting = self._waiting, deque()
        for write in waiting:
            write.settle(False)

    async def _write(self, write: _Write) -> None:
        try:
            taken = await self._store.put(write.key, write.data, write.ttl_s)
        except StoreRefused:
            write.settle(False)
        except StoreDown as error:
            write.settle(False)
            self._breaker.trip(str(error))
        except BaseException:
            write.settle(False)
            raise
        else:
            write.settle(taken)
