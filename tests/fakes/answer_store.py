"""The answer store in memory: held to the same contract as Redis, and able to hang or fail on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from cache.errors import StoreError
from cache.store import MAX_BATCH, SCOPE_CHARS, Entry, scope_pattern


class MemoryAnswerStore:
    """Expires by the loop's clock. `trouble` is raised by every call; while `gate` is clear, calls hang.

    `batches` are the keys of each look-up, `pings` counts probes, `latency_s` is a call's time.
    """

    def __init__(self, max_entry_bytes: int = 1 << 20) -> None:
        self.max_entry_bytes = max_entry_bytes
        self.trouble: StoreError | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.latency_s = 0.0
        self.batches: list[list[str]] = []
        self.pings = 0
        self._values: dict[str, tuple[bytes, float]] = {}

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        if len(keys) > MAX_BATCH:
            raise ValueError(f"at most {MAX_BATCH} keys at once")
        self.batches.append(list(keys))
        await self._round_trip()
        return [self._get(key) for key in keys]

    async def put(self, key: str, data: bytes, ttl_s: float) -> bool:
        if int(ttl_s * 1000) < 1 or len(data) > self.max_entry_bytes:
            return False
        await self._round_trip()
        self._values[key] = (data, asyncio.get_running_loop().time() + ttl_s)
        return True

    async def put_many(self, entries: Sequence[Entry]) -> list[bool]:
        if len(entries) > MAX_BATCH:
            raise ValueError(f"at most {MAX_BATCH} entries at once")
        return [await self.put(*entry) for entry in entries]

    async def purge(self, scope: str | None) -> int:
        scope_pattern(scope)
        await self._round_trip()
        doomed = [key for key in self._values if scope in (None, key[:SCOPE_CHARS])]
        for key in doomed:
            del self._values[key]
        return len(doomed)

    async def ping(self) -> None:
        self.pings += 1
        await self._round_trip()

    async def _round_trip(self) -> None:
        await self.gate.wait()
        await asyncio.sleep(self.latency_s)
        if self.trouble is not None:
            raise self.trouble

    def _get(self, key: str) -> bytes | None:
        data, expires_at = self._values.get(key, (None, 0.0))
        if (
            data is None
            or expires_at <= asyncio.get_running_loop().time()
            or len(data) > self.max_entry_bytes
        ):
            return None
        return data
