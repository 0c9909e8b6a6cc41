"""What several processes share of their broadcasts: who leads, who follows, and who takes over.

A `Leading` for each broadcast that is made here, a `Mirror` for each that is made elsewhere. Hints come
through the inbox; a beat says everything again, so that what a hint has lost is made good.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import msgspec

from broadcast.beater import Beater
from broadcast.broadcast import Broadcast
from broadcast.errands import Errands
from broadcast.keeping import Keeping
from broadcast.leading import Leading
from broadcast.manager import BroadcastManager
from broadcast.mirror import Mirror
from broadcast.outcome import Outcome
from broadcast.overruled import Overruled
from broadcast.owner import Finish, payload_of
from broadcast.sealing import Sealing
from broadcast.takeover import Takeover
from broadcast.trust import Trust
from cache.errors import StoreError
from cache.flights import Hit, SharedFlights
from cache.processes import Processes
from cache.views import View
from processing.flights import Flights
from runtime.errors import GatewayError
from runtime.supervisor import Supervisor
from upstream.chunk import Chunk

log = logging.getLogger("refrain.relay")


class Relay:
    """The `Elsewhere` of a process that is not alone. `manager` is set once, by whoever builds both.

    `durable`: what runs here is written as it grows, with its request, so that any process can go on.
    """

    manager: BroadcastManager

    def __init__(
        self,
        flights: SharedFlights,
        table: Flights[Broadcast[Chunk]],
        processes: Processes,
        sealing: Sealing,
        supervisor: Supervisor,
        *,
        lease_s: float,
        durable: bool,
    ) -> None:
        self.flights = flights
        self.leads: dict[str, Leading] = {}
        self.mirrors: dict[str, Mirror] = {}
        self.durable = durable
        self.hints = 0  #: since the last beat
        #: Told of a broadcast that goes on under another's epoch: its requests' records name the old one.
        self.on_moved: Callable[[Broadcast[Chunk]], None] = lambda broadcast: None
        self._table = table
        self._processes = processes
        self._supervisor = supervisor
        self._takeover = Takeover(self)
        self.trust = Trust(self, lease_s)
        self._overruled = Overruled(self, table, supervisor)
        self.errands = Errands(flights, supervisor, self.leads, self.mirrors)
        self.beater = Beater(self, processes, lease_s)
        self._keeping = Keeping(sealing)
        link = flights.link
        link.listen("D", self._hint)
        link.listen("R", self._hint)
        link.listen("W", self._wanted)
        link.on_up(self.look_again)
        link.on_down(self._told)
        processes.on_death(self._died)

    def lend(self, broadcast: Broadcast[Chunk], body: dict[str, Any]) -> None:
        """Somebody here knows the question, so this process could answer it."""
        mirror = self.mirrors.get(broadcast.key or "")
        if mirror is not None and mirror.body is None:
            mirror.body = body

    def __repr__(self) -> str:
        return f"<Relay {self.flights.link.proc} [{len(self.leads)} led, {len(self.mirrors)} mirrored]>"

    @property
    def up(self) -> bool:
        return self.flights.link.up

    # -- who leads, who follows ---------------------------------------------------------------
    def led(self, broadcast: Broadcast[Chunk], *, registered: bool, private: bool) -> None:
        """A broadcast is made here; `registered`: under an epoch that Redis gave."""
        leading = Leading(
            broadcast, self, registered=registered, durable=self.durable, private=private, spawn=self._sync
        )
        assert broadcast.key is not None
        before = self.leads.get(broadcast.key)
        if before is not None:
            self.detach(before)
        self.leads[broadcast.key] = leading
        leading.touch()

    def mirror(self, broadcast: Broadcast[Chunk], view: View, body: dict[str, Any] | None) -> Mirror:
        """A broadcast is made elsewhere; `view` is what Redis said when it registered us."""
        assert broadcast.key is not None
        leading = self.leads.get(broadcast.key)
        if leading is not None:
            self.detach(leading)  # it was overruled before it noticed
        mirror = Mirror(broadcast, self, body=body, run=self.errands.run)
        self.mirrors[broadcast.key] = mirror
        mirror.saw(view)
        return mirror

    # -- Elsewhere ----------------------------------------------------------------------------
    def changed(self, broadcast: Broadcast[Chunk]) -> None:
        leading = self.leading(broadcast)
        if leading is not None and (leading.public or leading.newcomers.untold):
            leading.stir()

    def attended(self, mirror: Broadcast[Chunk]) -> None:
        assert mirror.key is not None
        found = self.mirrors.get(mirror.key)
        if found is not None:
            found.attended()

    def may_abandon(self, broadcast: Broadcast[Chunk], *, expired: bool) -> bool:
        leading = self.leading(broadcast)
        if leading is None or leading.detached or not self.up:
            return True
        if leading.unsure:
            return False  # the first beat after that judges anew
        if not leading.registered:
            return True
        if not leading.confirming:
            leading.confirming = True
            self._supervisor.spawn("relay:idle", self._confirm_idle(leading, expired=expired))
        return False

    def ended(self, broadcast: Broadcast[Chunk], outcome: Outcome, error: GatewayError | None) -> None:
        assert broadcast.key is not None
        mirror = self.mirrors.get(broadcast.key)
        if mirror is not None and mirror.broadcast is broadcast:
            del self.mirrors[broadcast.key]
            self.errands.leave(broadcast.key, dismissed=broadcast.dismissed)
        elif (leading := self.leading(broadcast)) is not None:
            leading.end(Finish(outcome.value, payload_of(error)))
            if not leading.registered:
                self.errands.leave(broadcast.key)  # a reply that came too late may have made us follow
            self._forget_if_over(leading)

    async def sealed(self, broadcast: Broadcast[Chunk], ttl_s: float | None) -> bool:
        leading = self.leading(broadcast)
        if leading is None or leading.detached:
            return False
        assert broadcast.key is not None
        stored = self._keeping.keep(leading, ttl_s)
        for old in list(self._keeping.overdue()):
            old.close()
            self._forget_if_over(old)
        self._forget_if_over(leading)
        if not self.up:
            self._keeping.settle(leading, stored=False, alone=True)
        return await stored

    def abdicate_all(self) -> None:
        """What others follow is theirs at once; told in the order of the calls, before any end is."""
        for leading in list(self.leads.values()):
            if leading.broadcast.running and leading.registered and leading.broadcast.foreign.interested:
                leading.detached = True
                del self.leads[leading.key]
                self.errands.abdicate(leading.key, leading.epoch)

    # -- inbox --------------------------------------------------------------------------------
    def _hint(self, message: str) -> None:
        self.hints += 1
        mirror = self.mirrors.get(message.partition("|")[0])
        if mirror is not None:
            mirror.pull()

    def _wanted(self, message: str) -> None:
        key, _, rest = message.partition("|")
        leading = self.leads.get(key)
        if leading is not None:
            leading.dismissed = rest.endswith("|x")
            leading.publish()

    def _died(self, proc: str) -> None:
        for mirror in list(self.mirrors.values()):
            if mirror.maker == proc and not mirror.over:
                self.leader_gone(mirror)

    def look_again(self) -> None:
        """Hints may have been lost, or Redis has lost its memory."""
        for mirror in list(self.mirrors.values()):
            mirror.pull()
        self.beater.hurry()

    def _told(self) -> None:
        """Whoever waits for Redis need not."""
        for leading in self.leads.values():
            leading.tell()

    # -- Owner and Follower -------------------------------------------------------------------
    def eta_s(self, broadcast: Broadcast[Chunk]) -> float | None:
        return self.manager.outlook.eta_s(broadcast)

    def body_of(self, broadcast: Broadcast[Chunk]) -> bytes:
        prompt = self.manager.running.get(broadcast)
        return msgspec.json.encode(prompt.question) if self.durable and prompt is not None else b""

    async def lives(self, proc: str) -> bool:
        """Has it said so within a lease? Raises StoreError."""
        return await self._processes.lives(proc)

    def is_dead(self, proc: str) -> bool:
        return proc in self._processes.dead

    def overruled(self, leading: Leading, found: View | Hit | None) -> None:
        self._overruled.act(leading, found)

    def leader_gone(self, mirror: Mirror) -> None:
        if not mirror.taking_over and not mirror.over:
            mirror.taking_over = True
            self._supervisor.spawn("relay:takeover", self._takeover.run(mirror))

    def still_wanted(self, mirror: Mirror) -> None:
        """Nobody leads what it follows: Redis has forgotten it, or it ended before we were heard."""
        if not mirror.taking_over:
            mirror.taking_over = True
            self._supervisor.spawn("relay:takeover", self._takeover.adopt(mirror))

    def lead_instead(self, mirror: Mirror, epoch: int) -> None:
        """This process makes it from now on."""
        broadcast, body = mirror.broadcast, mirror.body
        if not broadcast.running or body is None:
            self.errands.abdicate(mirror.key, epoch)
            return
        log.warning("a broadcast is taken over", extra={"epoch": epoch, "events_void": len(broadcast.log)})
        self.mirrors.pop(mirror.key, None)
        self.led(broadcast, registered=True, private=False)
        self.manager.take_over(broadcast, epoch, body)
        leading = self.leading(broadcast)
        if leading is not None:
            leading.publish()

    # -- acting -------------------------------------------------------------------------------
    def leading(self, broadcast: Broadcast[Chunk]) -> Leading | None:
        leading = self.leads.get(broadcast.key or "")
        return leading if leading is not None and leading.broadcast is broadcast else None

    def detach(self, leading: Leading) -> None:
        """What runs here goes on for its own readers; nobody new joins it and nothing of it is kept."""
        leading.detached = leading.broadcast.log.contested = True
        leading.tell()
        if leading.registered:
            self.errands.abdicate(leading.key, leading.epoch)  # where Redis still takes it for ours
        self._table.leave(leading.key, leading.broadcast)
        if self.leads.get(leading.key) is leading:
            del self.leads[leading.key]
        self._keeping.over(leading, stored=False)

    def _sync(self, leading: Leading) -> None:
        self._supervisor.spawn("relay:sync", self._run_sync(leading))

    async def _run_sync(self, leading: Leading) -> None:
        try:
            await leading.sync()
        except StoreError:
            return  # later, perhaps; nobody waits for it
        finally:
            self._forget_if_over(leading)
            if leading.finish is not None:
                self._keeping.settle(leading, stored=False)

    def _forget_if_over(self, leading: Leading) -> None:
        if leading.over:
            if self.leads.get(leading.key) is leading:
                del self.leads[leading.key]
            self._keeping.over(leading, stored=not leading.detached)

    async def _confirm_idle(self, leading: Leading, *, expired: bool) -> None:
        how = Outcome.EXPIRED if expired else Outcome.CANCELLED
        try:
            over = await leading.confirm_idle(how.value, payload_of(None))
        except StoreError:
            over = True
        leading.confirming = False
        if over:
            leading.broadcast.abandon(expired=expired)
        else:
            leading.publish()
        leading.tell()
