"""Answers whose end Redis is being told: this process holds one too once Redis has taken it, and not before.

Whoever was frozen past its lease has an answer that is void, and must serve it to nobody new.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from broadcast.leading import Leading
from broadcast.outcome import Outcome
from broadcast.owner import Finish, payload_of
from broadcast.sealing import Sealing
from cache.answer import SealedAnswer

#: Ends that wait for a Redis that is away; older ones are let go.
MAX_BACKLOG = 200
MAX_BACKLOG_BYTES = 32 * 1024 * 1024


class Keeping:
    """State: what is on its way, and who waits for it to be there."""

    def __init__(self, sealing: Sealing) -> None:
        self._sealing = sealing
        self._waiting: dict[Leading, tuple[SealedAnswer | None, asyncio.Future[bool]]] = {}
        self._backlog: dict[Leading, int] = {}

    def keep(self, leading: Leading, ttl_s: float | None) -> asyncio.Future[bool]:
        """Have its end told, with its answer; what comes says whether Redis took it."""
        answer = self._sealing.answer(leading.key, leading.broadcast.log, ttl_s)
        value = self._sealing.encoded(answer)
        stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[leading] = (answer if value else None, stored)
        ttl_ms = round(self._sealing.ttl_s(ttl_s) * 1000)
        self._backlog[leading] = leading.broadcast.log.size + len(value)
        leading.end(Finish(Outcome.COMPLETED.value, payload_of(None), value, ttl_ms))
        return stored

    def overdue(self) -> Iterator[Leading]:
        """The oldest of those whose end Redis has not taken, beyond what may wait for it: a miss later."""
        while len(self._backlog) > MAX_BACKLOG or sum(self._backlog.values()) > MAX_BACKLOG_BYTES:
            leading = next(iter(self._backlog))
            self.over(leading, stored=False)
            yield leading

    def over(self, leading: Leading, *, stored: bool) -> None:
        """Its end is told, or never will be."""
        self._backlog.pop(leading, None)
        self.settle(leading, stored=stored)

    def settle(self, leading: Leading, *, stored: bool, alone: bool = False) -> None:
        """Redis has taken it, or will not. `alone`: there is none that could know better. Idempotent."""
        answer, waiting = self._waiting.pop(leading, (None, None))
        if answer is not None and (stored or alone):
            self._sealing.hold(answer)
        if waiting is not None and not waiting.done():
            waiting.set_result(stored)
