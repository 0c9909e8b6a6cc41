"""One question at a time per key: whoever asks the same meanwhile waits, and looks again afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """State: per key that is being asked for, those who wait for what comes of it."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[asyncio.Future[T | None]]] = {}

    def taken(self, key: str) -> bool:
        return key in self._waiting

    async def outcome(self, key: str) -> T | None:
        """What whoever asks now has found for all, None if everybody has to look for themselves."""
        waiter: asyncio.Future[T | None] = asyncio.get_running_loop().create_future()
        self._waiting[key].append(waiter)
        return await waiter

    @contextmanager
    def mine(self, key: str) -> Iterator[list[T]]:
        """Ask. What is put into the list is for all who wait."""
        found: list[T] = []
        self._waiting[key] = []
        try:
            yield found
        finally:
            for waiter in self._waiting.pop(key):
                if not waiter.done():
                    waiter.set_result(found[0] if found else None)
