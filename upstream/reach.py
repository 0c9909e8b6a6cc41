"""Can the upstream be reached? From recent traffic if there was any, else by one TCP connect."""

from __future__ import annotations

import asyncio
from typing import Final

KEPT_S: Final = 5.0
PROBE_S: Final = 1.0


class Reach:
    """What is known of one host and port. Evidence counts for `KEPT_S` seconds."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._reached = False
        self._seen_at = float("-inf")
        self._probing = asyncio.Lock()

    def note(self, reached: bool) -> None:
        """Traffic has just shown that the upstream can, or cannot, be reached."""
        self._reached = reached
        self._seen_at = asyncio.get_running_loop().time()

    async def reachable(self) -> bool:
        """Ask for it; takes at most `PROBE_S` if nobody else is asking."""
        async with self._probing:  # one probe, however many ask
            if asyncio.get_running_loop().time() - self._seen_at >= KEPT_S:
                self.note(await self._connects())
            return self._reached

    async def _connects(self) -> bool:
        try:
            async with asyncio.timeout(PROBE_S):
                _, writer = await asyncio.open_connection(self._host, self._port)
        except (OSError, ValueError):  # OSError: TimeoutError too; ValueError: an impossible name
            return False
        writer.transport.abort()
        return True
