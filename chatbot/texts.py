"""The text of a request that ended in another process: written down, in the cache, or asked for."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from broadcast.log import Log
from broadcast.relay import Relay
from broadcast.sealing import log_of
from cache.codec import decode
from cache.names import flight_keys, log_key
from cache.requests import Known
from chatbot import told
from chatbot.record import Record, Role
from runtime.errors import HistoryGone
from upstream.chunk import Chunk, parse_chunk

#: Between two looks for what its owner is about to write.
LOOK_S: Final = 0.02
#: Its owner, if it lives, answers within so long.
OWNER_S: Final = 1.0


class Texts:
    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    async def log_of(self, known: Known, about: told.About, end: told.Ended, record: Record) -> Log[Chunk]:
        """Its text, from wherever it is: written down, cached, or with its owner. HistoryGone without."""
        if end.events == 0:
            return _log(known.epoch, [])
        until = asyncio.get_running_loop().time() + OWNER_S
        asked = False
        while True:
            log = await self._written(known, about, end, record)
            if log is not None and (not end.shared or end.events is None or len(log) >= end.events):
                return log
            if asyncio.get_running_loop().time() > until or self._relay.is_dead(known.owner):
                break
            if not asked:
                asked = True
                await self._relay.flights.push(known.owner, f"P|{record.ticket.id}")
            await asyncio.sleep(LOOK_S)
        if end.outcome == "completed":
            raise HistoryGone()
        return _log(known.epoch, [])

    async def _written(
        self, known: Known, about: told.About, end: told.Ended, record: Record
    ) -> Log[Chunk] | None:
        link = self._relay.flights.link
        own = "" if end.shared else record.ticket.id
        raw = await link.do("GET", log_key(about.key, known.epoch, own))
        if raw is not None:
            return _log(known.epoch, [parse_chunk(line) for line in raw.split(b"\n") if line])
        cached = await link.do("GET", flight_keys(about.key)[4])
        answer = None if cached is None else decode(cached, about.key)
        if answer is None or known.epoch not in (0, answer.epoch):
            return None
        if record.role is Role.CACHED and record.hit_ttl_s is None:
            record.hit_ttl_s = answer.remaining_ttl(time.time())
        return log_of(answer)


def _log(epoch: int, chunks: list[Chunk]) -> Log[Chunk]:
    log: Log[Chunk] = Log(epoch)
    log.extend(chunks)
    log.end()
    return log
