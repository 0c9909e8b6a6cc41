"""Whoever asks how far a flight is hears the same of every process: not more than others know, and not less.

Else a status, asked of two processes in turn, would go back.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from broadcast.broadcast import Broadcast
from broadcast.leading import Leading
from broadcast.mirror import LOOK_S, SOON_S, Mirror
from broadcast.shown import reached
from upstream.chunk import Chunk

#: Whoever asks waits at most so long for Redis to be told, or to tell.
TOLD_S = 0.1
#: And so long for the first word of a phase.
WORD_S = 0.25


class Parts(Protocol):
    """What this asks of the relay."""

    mirrors: dict[str, Mirror]

    @property
    def up(self) -> bool: ...

    def leading(self, broadcast: Broadcast[Chunk]) -> Leading | None: ...


class Abreast:
    def __init__(self, relay: Parts) -> None:
        self._relay = relay

    async def heard(self, broadcast: Broadcast[Chunk]) -> None:
        """Until the phase of a mirror is known: nobody is told `queued` of what streams elsewhere."""
        mirror = self._mirror(broadcast)
        until = _now() + WORD_S
        while mirror is not None and not (mirror.heard or mirror.over) and _now() < until:
            mirror.pull()
            await asyncio.sleep(LOOK_S)

    async def level(self, broadcast: Broadcast[Chunk]) -> None:
        """Until what is shown here is what Redis knows."""
        mirror = self._mirror(broadcast)
        if mirror is not None and not mirror.over:
            await mirror.catch_up(TOLD_S)
        leading, until = self._relay.leading(broadcast), _now() + TOLD_S
        while leading is not None and ahead(leading) and self._relay.up and _now() < until:
            await _news(leading, until)

    def _mirror(self, broadcast: Broadcast[Chunk]) -> Mirror | None:
        mirror = self._relay.mirrors.get(broadcast.key or "")
        return mirror if mirror is not None and mirror.broadcast is broadcast else None


def ahead(leading: Leading) -> bool:
    """Is Redis about to be told of another phase than it knows, or of the end?"""
    if leading.over or leading.detached or not leading.registered:
        return False
    return leading.finish is not None or (
        leading.public and leading.said[:2] != reached(leading.broadcast)[:2]
    )


async def _news(leading: Leading, until: float) -> None:
    """Until there may be some. All readers wait for an end at once: they are told, and do not look."""
    if leading.finish is None:
        await asyncio.sleep(SOON_S)
        return
    try:
        async with asyncio.timeout_at(until):
            await leading.until_told()
    except TimeoutError:
        return


def _now() -> float:
    return asyncio.get_running_loop().time()
