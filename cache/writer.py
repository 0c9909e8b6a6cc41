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

ROOM_BYTES = 64 * 1024 * 1024
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

        The wait in the queue has no bound of its own: it moves, or a write takes longer than a second,
        and then everybody who waits is told. A caller that is cancelled leaves its write in the queue:
        the answer is worth keeping.
        """
        if not self._breaker.closed:
            return False
        if self._waiting_bytes + len(data) > self._room_bytes:
            self.overflowed += 1
            return False
        write = _Write(key, data, ttl_s, asyncio.get_running_loop().create_future())
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
            write = self._waiting.popleft()
            self._waiting_bytes -= len(write.data)
            timer = Patience(self._patience_s, partial(self._give_up, write))
            try:
                await self._write(write)
            finally:
                timer.cancel()

    def flush(self) -> None:
        """Give up everything that waits."""
        waiting, self._waiting, self._waiting_bytes = self._waiting, deque(), 0
        for write in waiting:
            write.settle(False)

    def _give_up(self, write: _Write) -> None:
        write.settle(False)
        self.flush()

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
