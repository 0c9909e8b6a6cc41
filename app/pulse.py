"""The pulse: one timer for all open streams, instead of one for each.

Four times a second it looks at every connection: a write that has taken longer than the send timeout
cuts that connection, a silence that has lasted too long wakes it for a keepalive, and a request that
waits is woken to see whether its place in the queue has changed.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

BEAT_S: Final = 0.25


class Beating(Protocol):
    def beat(self, now: float) -> None: ...


class Pulse:
    """`run` is a loop that the Supervisor owns."""

    def __init__(self) -> None:
        self._members: set[Beating] = set()

    def __len__(self) -> int:
        return len(self._members)

    def add(self, member: Beating) -> None:
        self._members.add(member)

    def discard(self, member: Beating) -> None:
        self._members.discard(member)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(BEAT_S)
            now = loop.time()
            for member in list(self._members):
                member.beat(now)
