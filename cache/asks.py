"""The waiting room of the fast lane: look-ups that no worker has taken yet, at most one per key.

Everything here is synchronous: the state is `_waiting` and each ask's `waiters`, and no await can
come between reading and changing them.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from cache.patience import Patience

Waiter = asyncio.Future[Any]


class Ask:
    """One question for the store, and everybody who waits for its answer.

    Each waiter has a future of its own: cancelling a shared one would cancel it for all.
    """

    __slots__ = ("asked_at", "key", "patience", "question", "waiters")

    def __init__(self, key: str, asked_at: float, question: Any = None) -> None:
        self.question = question  #: more than "what is stored under this key"
        self.key = key
        self.asked_at = asked_at
        self.waiters: list[Waiter] = []
        self.patience: Patience | None = None

    def __repr__(self) -> str:
        return f"<Ask {self.key[:8]} for {len(self.waiters)}>"

    def settle(self, answer: Any) -> None:
        """Tell every waiter; only the first call has an effect."""
        if self.patience is not None:
            self.patience.cancel()
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(answer)


class WaitingRoom:
    """At most `capacity` asks in order of arrival, each settled within `patience_s` seconds."""

    def __init__(self, capacity: int, patience_s: float) -> None:
        self.capacity = capacity
        self.overflowed = 0
        self.expired = 0
        self._patience_s = patience_s
        self._waiting: dict[str, Ask] = {}
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def __repr__(self) -> str:
        return f"<WaitingRoom {len(self)} of {self.capacity}>"

    def join(self, key: str) -> Ask | None:
        """The waiting ask for `key`, made if there is none; None if the room is full.

        An ask that a worker has taken is not joined: Redis may have been read before an answer that
        the newcomer has to see was stored.
        """
        ask = self._waiting.get(key)
        return self._enter(key) if ask is None else ask

    def enter(self, name: str, question: Any) -> Ask | None:
        """A question of its own, which nobody joins; None if the room is full."""
        return None if name in self._waiting else self._enter(name, question)

    async def outcome(self, ask: Ask) -> Any:
        """Wait for the ask as one more waiter. If the caller is cancelled, nobody else notices."""
        waiter: Waiter = asyncio.get_running_loop().create_future()
        ask.waiters.append(waiter)
        try:
            return await waiter
        except BaseException:
            self._leave(ask, waiter)
            raise

    async def take(self, most: int) -> list[Ask]:
        """Wait until somebody asks, then take what waits, the oldest first, up to `most`."""
        while not self._waiting:
            self._filled.clear()
            await self._filled.wait()
        taken = list(self._waiting.values())[:most]
        for ask in taken:
            del self._waiting[ask.key]
        return taken

    def flush(self) -> None:
        """Settle everything that waits as a miss."""
        waiting, self._waiting = self._waiting, {}
        for ask in waiting.values():
            ask.settle(None)

    def oldest_wait(self, now: float) -> float:
        """Seconds that the oldest ask has waited, by the loop's clock; 0 if none waits."""
        oldest = next(iter(self._waiting.values()), None)
        return 0.0 if oldest is None else max(0.0, now - oldest.asked_at)

    def _enter(self, key: str, question: Any = None) -> Ask | None:
        if len(self._waiting) >= self.capacity:
            self.overflowed += 1
            return None
        ask = Ask(key, asyncio.get_running_loop().time(), question)
        # Runs on after a worker has taken the ask: queue and round trip share one budget.
        ask.patience = Patience(self._patience_s, partial(self._run_out, ask))
        self._waiting[key] = ask
        self._filled.set()
        return ask

    def _leave(self, ask: Ask, waiter: Waiter) -> None:
        ask.waiters.remove(waiter)
        if not ask.waiters:
            self._expire(ask)

    def _run_out(self, ask: Ask) -> None:
        self.expired += 1
        self._expire(ask)

    def _expire(self, ask: Ask) -> None:
        # The key may meanwhile wait again, as another ask.
        if self._waiting.get(ask.key) is ask:
            del self._waiting[ask.key]
        ask.settle(None)
