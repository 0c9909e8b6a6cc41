"""What a broadcast manager asks and tells about other processes, and what a process alone answers."""

from __future__ import annotations

from typing import Protocol

from broadcast.broadcast import Broadcast
from broadcast.outcome import Outcome
from broadcast.sealing import Sealing
from runtime.errors import GatewayError
from upstream.chunk import Chunk


class Elsewhere(Protocol):
    """Every method is synchronous but `sealed`: what has to be done for it is done by tasks of its own."""

    def changed(self, broadcast: Broadcast[Chunk]) -> None:
        """A broadcast that is made here has more events, or is in another phase."""

    def attended(self, mirror: Broadcast[Chunk]) -> None:
        """Who is connected or interested here may have changed."""

    def may_abandon(self, broadcast: Broadcast[Chunk], *, expired: bool) -> bool:
        """False: it is being found out, and `abandon` or `heard` will follow."""

    def ended(self, broadcast: Broadcast[Chunk], outcome: Outcome, error: GatewayError | None) -> None:
        """It ended, and there is no answer to keep. Of a mirror too."""

    async def sealed(self, broadcast: Broadcast[Chunk], ttl_s: float | None) -> bool:
        """Its answer is to be kept, for a shorter time than usual if `ttl_s` says so. Returns when a newcomer
        anywhere finds it (True), or will not."""

    def abdicate_all(self) -> None:
        """This process ends: what others follow is theirs."""


class Nowhere:
    """A process that is alone."""

    def __init__(self, sealing: Sealing) -> None:
        self._sealing = sealing

    def changed(self, broadcast: Broadcast[Chunk]) -> None:
        """Nobody to tell."""

    def attended(self, mirror: Broadcast[Chunk]) -> None:
        """Nobody to tell."""

    def may_abandon(self, broadcast: Broadcast[Chunk], *, expired: bool) -> bool:
        return True

    def ended(self, broadcast: Broadcast[Chunk], outcome: Outcome, error: GatewayError | None) -> None:
        """Nobody to tell."""

    async def sealed(self, broadcast: Broadcast[Chunk], ttl_s: float | None) -> bool:
        assert broadcast.key is not None
        return await self._sealing.store(broadcast.key, broadcast.log, ttl_s)

    def abdicate_all(self) -> None:
        """Nobody to leave it to."""
