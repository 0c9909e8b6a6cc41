"""What a follower does when the leader of its broadcast is gone.

With nothing shown yet it is made again here, and nobody notices. With text shown, native readers get a
`reset` and the new text, OpenAI readers an honest end: two generations are never spliced.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from typing import Protocol

import msgspec

from broadcast.mirror import Mirror
from broadcast.outcome import Outcome
from cache.errors import StoreError
from cache.flights import Asking, Led, Refused, SharedFlights, Wait
from cache.views import View
from runtime.errors import LeaderLost, WorkerLost

#: Before a takeover, so that not all who follow try at once.
JITTER_S = 0.1
#: For others to take over what nobody here knows the question of, beside their lease.
PATIENCE_S = 2.0
_LOOK_S = 0.05


class Successor(Protocol):
    """What a takeover asks of the relay."""

    flights: SharedFlights
    durable: bool

    def is_dead(self, proc: str) -> bool: ...

    def lead_instead(self, mirror: Mirror, epoch: int) -> None: ...


class Takeover:
    def __init__(self, relay: Successor) -> None:
        self._relay = relay

    async def run(self, mirror: Mirror) -> None:
        """Run by a task of the relay, one per mirror at a time."""
        try:
            if mirror.body is None:
                await self._wait_for_others(mirror)
            elif not mirror.wanted:
                return  # whoever comes makes the next beat look again
            elif mirror.worthwhile:
                await asyncio.sleep(random.uniform(0, JITTER_S))
                await self._try(mirror)
            else:
                mirror.broadcast.conclude(Outcome.FAILED, LeaderLost())
        except StoreError:
            return  # the next beat finds it again
        finally:
            mirror.taking_over = False

    async def adopt(self, mirror: Mirror) -> None:
        """Redis has forgotten the flight, and nobody has come to say that it leads: lead anew."""
        try:
            if mirror.body is None:
                mirror.broadcast.conclude(Outcome.FAILED, WorkerLost())
                return
            asking = Asking(
                mirror.key,
                "",
                b"",
                0,
                mirror.broadcast.stake,
                read_cache=False,
                floor=mirror.broadcast.log.epoch,
            )
            joined = await self._relay.flights.join(asking, 1.0)
            if isinstance(joined, Led):
                self._relay.lead_instead(mirror, joined.epoch)
            elif isinstance(joined, View) and joined.epoch < mirror.broadcast.log.epoch:
                mirror.broadcast.conclude(Outcome.FAILED, LeaderLost())  # what we followed is lost
            elif isinstance(joined, View):
                mirror.saw(joined)
            elif isinstance(joined, Refused) and joined.why == "PAST":
                mirror.broadcast.conclude(Outcome.FAILED, LeaderLost())  # a later one, and nobody may join it
        except StoreError:
            return
        finally:
            mirror.taking_over = False

    async def _try(self, mirror: Mirror) -> None:
        flights, nonce = self._relay.flights, secrets.token_hex(8)
        while not mirror.over:
            dead = mirror.maker if self._relay.is_dead(mirror.maker) else ""
            body = msgspec.json.encode(mirror.body) if self._relay.durable else b""
            reply = await flights.take_over(mirror.key, mirror.broadcast.log.epoch, nonce, dead, body)
            if isinstance(reply, Wait):
                await asyncio.sleep(reply.ms / 1000)
                continue
            if isinstance(reply, Led):
                self._relay.lead_instead(mirror, reply.epoch)
            elif isinstance(reply, Refused) and reply.why != "GONE":
                mirror.pull()
            return

    async def _wait_for_others(self, mirror: Mirror) -> None:
        """Those who know the question take over, or nobody does."""
        loop, epoch = asyncio.get_running_loop(), mirror.broadcast.log.epoch
        view = await self._relay.flights.attach(mirror.key, mirror.broadcast.stake)
        others = view is not None and view.live and view.interested > 0
        until = loop.time() + (self._relay.flights.lease_ms / 1000 if others else 0.0) + PATIENCE_S * others
        while loop.time() < until and not mirror.over and mirror.broadcast.log.epoch == epoch:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)
        if not mirror.over and mirror.broadcast.log.epoch == epoch:
            mirror.broadcast.conclude(Outcome.FAILED, WorkerLost())
