"""A guest's flight has ended: how its request has, its owner says, and no reader here is told before that.

The owner hears of it a moment later, and takes a cancel until then. So its word is waited for, but not for
long: then Redis is told what is about to be said here, and the owner can say nothing else any more.
"""

from __future__ import annotations

import asyncio
from typing import Final

from broadcast.guest import GuestClaim
from broadcast.outcome import End
from broadcast.relay import Relay
from cache.errors import StoreError
from cache.requests import SharedRequests
from chatbot import told
from chatbot.endings import Endings
from chatbot.record import Record
from runtime.supervisor import Supervisor

#: So long its owner is waited for, and then Redis.
HOLD_S: Final = 0.1
#: Between two looks whether it has been said.
LOOK_S: Final = 0.005


class LastWord:
    def __init__(
        self,
        requests: SharedRequests,
        relay: Relay,
        endings: Endings,
        supervisor: Supervisor,
        *,
        retention_ms: int,
    ) -> None:
        self._requests = requests
        self._relay = relay
        self._endings = endings
        self._supervisor = supervisor
        self._retention_ms = retention_ms

    def awaited(self, record: Record) -> None:
        """Its end is held back; it is let go in any case."""
        self._supervisor.spawn("guest:told", self._until_told(record))

    async def settled(self, record: Record) -> None:
        """Until nothing is held back of it."""
        claim = record.claim
        while isinstance(claim, GuestClaim) and claim.held and claim.ended is None:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)

    async def _until_told(self, record: Record) -> None:
        claim = record.claim
        assert isinstance(claim, GuestClaim)
        assert claim.held is not None
        try:
            if self._relay.up and await self._is_silent(record):
                if not claim.held.shared:
                    claim.send_home()  # here nobody wanted it any more: there it may go on
                    return
                async with asyncio.timeout(HOLD_S):
                    await self._say(record, claim.held)
        except (StoreError, TimeoutError):
            return  # nobody can be asked: what is known here has to do
        finally:
            claim.let_go()

    async def _is_silent(self, record: Record) -> bool:
        """Its owner does not say it, so that it is to be said from here."""
        try:
            async with asyncio.timeout(HOLD_S):
                known = await self._requests.recall(record.ticket.id, reading=True)
                if known is None:
                    return False  # an OpenAI call that is over, or Redis has forgotten it
                self._endings.apply(record, known.end)
                while record.claim.ended is None and not self._relay.is_dead(record.owner):  # noqa: ASYNC110
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            pass
        return record.claim.ended is None

    async def _say(self, record: Record, held: End) -> None:
        id, log = record.ticket.id, record.broadcast.log
        mine = told.ended_as(held, len(log))
        noted = await self._requests.ended(id, mine, self._retention_ms, log.epoch, how="p")
        self._endings.apply(record, noted)
