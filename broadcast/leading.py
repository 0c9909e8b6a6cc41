"""The Redis side of a broadcast that is made here: who else follows is told, and Redis learns how it ends.

Lazy: what nobody elsewhere follows is not written. Level-triggered: `touch` says that something has
changed, one task brings Redis in line with the log, and whatever fails is tried again at the next beat.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from broadcast.broadcast import Broadcast
from broadcast.lifecycle import Phase
from broadcast.newcomers import Newcomers
from broadcast.owner import Finish, Owner
from broadcast.shown import one_line, reached, say
from cache.flights import Asking, Hit, Joined, Led, Refused, Wait
from cache.views import Others, Pulse, View
from upstream.chunk import Chunk

#: Between two publications of one log: what comes meanwhile goes in one entry.
WINDOW_S = 0.025
#: Who leaves last is told within so long, whatever Redis does.
IDLE_TIMEOUT_S = 0.15
BEHIND_S = 0.5  #: Who has no permit yet claims a key so much later than others may: who is further on leads.


class Leading:
    """State: what Redis has of the log (`published`), whether it must have all of it (`public`), whether it
    knows us at all (`registered`), and how far the end is (`finish`, `over`).

    `detached`: somebody else leads that key by now. What runs here goes on for its own readers, and no
    further: Redis is not touched any more.
    """

    def __init__(
        self,
        broadcast: Broadcast[Chunk],
        owner: Owner,
        *,
        registered: bool,
        durable: bool,
        private: bool,
        spawn: Callable[[Leading], None],
    ) -> None:
        assert broadcast.key is not None
        self.broadcast = broadcast
        self.key = broadcast.key
        self.registered = registered
        self._once = registered  # Redis has known this epoch
        self.durable = durable
        self.private = private
        self.public = durable
        self.detached = self.over = False
        self.published = 0
        self.finish: Finish | None = None
        self.confirming = False  #: it is being found out whether anybody elsewhere is interested
        self.syncing = False
        self.renewed_at = asyncio.get_running_loop().time() if registered else float("-inf")
        self._unsure_until = float("-inf")
        self.dismissed = False  #: the last who was interested elsewhere has cancelled
        self.said = ("", 0, 0)  #: how far it is, as others know it
        self.newcomers = Newcomers(broadcast, private=private)
        self._owner = owner
        self._spawn = spawn
        self._dirty = False
        self._changed: list[asyncio.Future[None]] = []

    def __repr__(self) -> str:
        state = "detached" if self.detached else ("registered" if self.registered else "unregistered")
        return f"<Leading {self.key[:12]} [{state}, {self.published} published]>"

    @property
    def epoch(self) -> int:
        return self.broadcast.log.epoch

    @property
    def settled(self) -> bool:
        """Nothing is under way that a newcomer should wait for."""
        return self.over or self.detached or not (self.confirming or self.finish)

    @property
    def unsure(self) -> bool:
        """Redis had forgotten who follows, and not all of them have said so again."""
        return asyncio.get_running_loop().time() < self._unsure_until

    def forgotten(self) -> None:
        """Redis has lost it, or has gone back to what was before it: it is told again."""
        self.registered = False
        self._unsure_until = asyncio.get_running_loop().time() + self._owner.flights.lease_ms / 1000
        self.touch()

    async def until_told(self) -> None:
        """Until something may have changed."""
        changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._changed.append(changed)
        await changed

    def touch(self) -> None:
        """There may be something that Redis does not know. Called for each batch of text and at each beat."""
        behind = self.public and len(self.broadcast.log) > self.published
        if behind or self.finish or not self.registered or self.newcomers.untold:
            self.stir()

    def stir(self) -> None:
        if self.over or self.detached:
            return
        self._dirty = True
        if not self.syncing:
            self.syncing = True
            self._spawn(self)

    def publish(self) -> None:
        """Somebody elsewhere follows, or wants to know who else does."""
        self.public = True
        self.stir()

    def end(self, finish: Finish) -> None:
        self.finish = finish
        if not self._once and not finish.value and not self.public:
            self.close()  # nobody has heard of it, and nothing of it is to be kept
        self.touch()

    def close(self) -> None:
        """It is over, or no longer ours to tell of."""
        self.over = True
        self.tell()

    def tell(self) -> None:
        changed, self._changed = self._changed, []
        for future in changed:
            if not future.done():
                future.set_result(None)

    # -- bringing Redis in line ---------------------------------------------------------------
    async def sync(self) -> None:
        """Run by a task of the relay while something is to be told. Raises StoreError: later, then."""
        try:
            while self._dirty and not (self.over or self.detached):
                self._dirty = False
                await self._step()
                if self._dirty and self.finish is None:
                    await asyncio.sleep(WINDOW_S)
        finally:
            self.syncing = False
            self.tell()

    async def _step(self) -> None:
        if not self.registered:
            await self._register()
        elif self.finish is not None:
            await self._finish(self.finish)
        elif self.newcomers.untold:
            await self._reseed()
        elif self.public:
            await self._publish()

    async def _register(self) -> None:
        if len(self.broadcast.log) or self._once:
            await self._reseed()
            return
        asking = Asking(
            self.key,
            "",
            b"",
            0,
            "f",  # should another lead: it must not end unread before we have said who is here
            read_cache=not self.private,
            fresh=True,
            floor=self.epoch,
            body=self._owner.body_of(self.broadcast),
        )
        joined = await self._owner.flights.join(asking, 1.0)
        # Meanwhile text may have come: then only a claim of ours still helps.
        match joined:
            case Wait(ms=ms):
                await asyncio.sleep(ms / 1000 + (BEHIND_S if self.broadcast.phase is Phase.WAITING else 0.0))
                self._dirty = True
            case Led(epoch=epoch):
                await self._registered(epoch)
            case _:
                self._lost(joined)

    async def _registered(self, epoch: int) -> None:
        if len(self.broadcast.log):
            # Text has come while Redis was asked: its ids carry our own epoch, so that has to be known there.
            await self._reseed()
            return
        self.broadcast.log.restart(epoch)
        self.broadcast.wake()
        self._known()

    def _known(self) -> None:
        self.registered = self._once = True
        self.renewed_at = asyncio.get_running_loop().time()
        self._dirty = self._dirty or self.public or self.newcomers.untold or self.finish is not None

    async def _publish(self) -> None:
        log, loop = self.broadcast.log, asyncio.get_running_loop()
        count, asked_at, said = len(log), loop.time(), reached(self.broadcast)
        reply = await self._owner.flights.append(
            self.key, self.epoch, self.published + 1, self._phase(), self._chunks(self.published)
        )
        if isinstance(reply, Refused):
            await self._refused(reply)
            return
        self.published, self.said = count, said
        self.renewed_at = asked_at
        self.public = self.durable or reply.following > 0
        self.heard(reply)

    async def _finish(self, finish: Finish) -> None:
        public = self.public or self.published > 0
        reply = await self._owner.flights.finish(
            self.key,
            self.epoch,
            finish.how,
            finish.payload,
            len(self.broadcast.log),
            value=finish.value,
            ttl_ms=finish.ttl_ms,
            publish=self.durable,
            first=self.published + 1 if public else 0,
            chunks=self._chunks(self.published) if public else (),
        )
        if reply is None or reply.why == "ENDED":
            self.close()
        else:
            await self._refused(reply)

    async def _refused(self, reply: Refused) -> None:
        if reply.why == "GAP":
            # There is less than we thought, or somebody has begun to follow: from there on, then.
            self.published, self.public = int(reply.detail), True
            self._dirty = True
        elif reply.why == "GONE" or (reply.why == "FENCED" and int(reply.detail) < self.epoch):
            self.forgotten()
        else:
            self._lost(reply)

    async def _reseed(self) -> None:
        count, until = len(self.broadcast.log) if self.public else 0, self.broadcast.fresh_until
        reply = await self._owner.flights.reseed(
            self.key,
            self.epoch,
            self._phase(),
            published=self.public,
            chunks=self._chunks(0)[:count],
            body=self._owner.body_of(self.broadcast),
            fresh_ms=self.newcomers.ms,
        )
        if reply is not None:
            self._lost(reply)
            return
        self.published, self.newcomers.told = count, until
        self._known()

    def _lost(self, found: Joined) -> None:
        self._owner.overruled(self, found if isinstance(found, View | Hit) else None)

    # -- what Redis says ----------------------------------------------------------------------
    def beaten(self, pulse: Pulse, asked_at: float, me: str) -> None:
        """What a beat has found."""
        if self.over or self.detached or not self.registered:
            return
        if pulse.epoch < self.epoch:
            self.forgotten()
        elif pulse.epoch != self.epoch or pulse.owner != me:
            self._owner.overruled(self, None)
        elif pulse.state == "live":
            self.renewed_at = asked_at
            if pulse.others.following and (not self.public or self.said[-1] != self.broadcast.place):
                self.publish()
            self.heard(pulse.others)

    def heard(self, others: Others) -> None:
        if self.unsure and not others.interested:
            return
        if self.broadcast.running and not self.broadcast.remote and not self.confirming:
            self.broadcast.heard(others, dismissed=self.dismissed)

    async def confirm_idle(self, how: str, payload: bytes) -> bool:
        """Whether the broadcast may end, since nobody anywhere is interested. Raises StoreError."""
        reply = await self._owner.flights.idle(self.key, self.epoch, how, payload, IDLE_TIMEOUT_S)
        if isinstance(reply, Others):
            self.broadcast.foreign = reply
            return False
        if reply is not None and reply.why == "GONE":
            self.forgotten()
            return False
        return True

    def _phase(self) -> bytes:
        now = asyncio.get_running_loop().time()
        return say(self.broadcast, self._owner.eta_s(self.broadcast), now)

    def _chunks(self, since: int) -> list[bytes]:
        return [one_line(chunk.raw) for chunk in self.broadcast.log.events[since:]]
