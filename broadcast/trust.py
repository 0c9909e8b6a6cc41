"""Whether a newcomer may join what is made here: not what may have been overruled while we were frozen.

And whether a reader may have been with whoever has overruled it.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from broadcast.beater import Beater
from broadcast.broadcast import Broadcast
from broadcast.leading import Leading
from broadcast.lifecycle import Phase
from cache.errors import StoreError
from upstream.chunk import Chunk


class Leads(Protocol):
    """What this asks of the relay."""

    beater: Beater

    @property
    def up(self) -> bool: ...

    def leading(self, broadcast: Broadcast[Chunk]) -> Leading | None: ...


class Trust:
    """While Redis is away, each process trusts itself."""

    def __init__(self, relay: Leads, lease_s: float) -> None:
        self._relay = relay
        self._lease_s = lease_s

    def in_(self, broadcast: Broadcast[Chunk]) -> bool:
        """Its lease has not run out, and nothing is under way that a newcomer should wait for."""
        leading = self._relay.leading(broadcast)
        if leading is None or not self._relay.up:
            return True
        leased = self._leased(leading)
        if not leading.settled:
            return leased and bool(broadcast.phase is Phase.SEALED)
        return leased or not leading.registered

    async def settle(self, broadcast: Broadcast[Chunk]) -> None:
        """Until it can be trusted, or is known not to be. Raises StoreError."""
        leading = self._relay.leading(broadcast)
        if leading is None:
            return
        if leading.settled:
            await self._relay.beater.beat([leading])
        while self._relay.up and not leading.settled:
            await leading.until_told()

    async def seen(self, broadcast: Broadcast[Chunk], epoch: int) -> None:
        """A reader comes who has seen `epoch`: find out whether another makes by now what is made here."""
        leading = self._relay.leading(broadcast)
        if leading is None or epoch <= broadcast.log.epoch:
            return
        try:
            await self.settle(broadcast)
            asked = self._relay.up
        except StoreError:
            asked = False
        if not asked and leading.registered and not self._leased(leading):
            broadcast.log.contested = True

    def _leased(self, leading: Leading) -> bool:
        return asyncio.get_running_loop().time() - leading.renewed_at < self._lease_s
