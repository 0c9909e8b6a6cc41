"""The broadcast manager: preparation, then a slot at the first subscriber, then the answer, then the cache.

It is the `Driver` of every broadcast: a broadcast decides, this class acts. Its tasks belong to the
flight and run under the Supervisor; requests only ever watch them.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from admission import Stage
from broadcast.answering import Answering
from broadcast.bounds import Bounds
from broadcast.broadcast import Broadcast
from broadcast.directly import answer_directly
from broadcast.elsewhere import Elsewhere, Nowhere
from broadcast.epoch import Epochs
from broadcast.lifecycle import PENDING, RUNNING, Phase, Signal
from broadcast.log import Log
from broadcast.outcome import Outcome
from broadcast.outlook import Outlook
from broadcast.rest import Rest
from broadcast.sealing import Sealing, aged
from processing.flights import Flights
from processing.preparer import Direct, Preparer, Prompt
from runtime.errors import GatewayError, PrepareTimeout
from runtime.supervisor import Supervisor
from upstream.chunk import Chunk


class BroadcastManager:
    """Opens broadcasts and drives each through its phases."""

    def __init__(
        self,
        flights: Flights[Broadcast[Chunk]],
        leaders: Stage,
        llm_streams: Stage,
        preparer: Preparer,
        answering: Answering,
        sealing: Sealing,
        supervisor: Supervisor,
        bounds: Bounds,
        *,
        finish_unwatched: bool,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self.finish_unwatched = finish_unwatched
        self.running: dict[Broadcast[Chunk], Prompt] = {}
        self._flights = flights
        self._leaders = leaders
        self._llm_streams = llm_streams
        self._preparer = preparer
        self._answering = answering
        self._sealing = sealing
        self._supervisor = supervisor
        self._bounds = bounds
        self._epochs = Epochs()
        self.outlook = Outlook(
            leaders,
            llm_streams,
            max_pending=bounds.max_pending,
            queue_s=bounds.queue_s,
            slot_s=bounds.slot_s,
        )
        self.rest = Rest(self.running)
        self._elsewhere: Elsewhere = elsewhere or Nowhere(sealing)

    def __repr__(self) -> str:
        return f"<BroadcastManager [{len(self.running)} running, {self.outlook.pending} pending]>"

    # -- opening ------------------------------------------------------------------------------
    def open(
        self,
        key: str | None,
        body: dict[str, Any],
        order: float,
        *,
        tenant: str = "",
        epoch: int | None = None,
        store: bool = True,
    ) -> Broadcast[Chunk]:
        """Lead: take a place before the leaders stage and in the flights table, or be refused at once.

        `epoch`: the one that Redis has given. Raises QueueFull or QueueTimeout, and then nothing stays
        behind. `begin` must follow in the same turn of the loop, when the leader's claim has joined.
        """
        self.outlook.check()
        log = Log[Chunk](epoch or self._epochs.next(), self._bounds.max_log_bytes)
        broadcast = Broadcast(key, log, self)
        broadcast.order = order
        broadcast.admission = self._leaders.admit(broadcast)
        self.running[broadcast] = Prompt(body, turn=broadcast, store=store, tenant=tenant)
        if key is not None:
            self._flights.claim(key, broadcast)
        return broadcast

    def follow(
        self, key: str, epoch: int, body: dict[str, Any] | None, order: float, tenant: str = ""
    ) -> Broadcast[Chunk]:
        """A mirror of what another process makes. `body`: what to make it from should that one die."""
        mirror = Broadcast(key, Log[Chunk](epoch, self._bounds.max_log_bytes), self)
        mirror.order, mirror.remote = order, True
        self.running[mirror] = Prompt(body or {}, turn=mirror, tenant=tenant)
        self._flights.claim(key, mirror)
        return mirror

    def take_over(self, mirror: Broadcast[Chunk], epoch: int, body: dict[str, Any]) -> None:
        """Make here, from the start, what another process has left."""
        before = self.running[mirror]  # perhaps prepared here once: nothing of that counts any more
        self.running[mirror] = Prompt(body, turn=mirror, store=before.store, tenant=before.tenant)
        mirror.restart(epoch, remote=False)
        try:
            mirror.admission = self._leaders.admit(mirror)
        except GatewayError as error:
            mirror.fail(error)
        else:
            self.begin(mirror)

    def let_go(self, broadcast: Broadcast[Chunk], epoch: int) -> None:
        """Another process makes it, under `epoch`, and nothing of ours has been shown: mirror it."""
        self.outlook.pending -= broadcast.phase in PENDING
        work, broadcast.work = broadcast.work, None
        if broadcast.phase in (Phase.WAITING, Phase.QUEUED):
            self._give_up_place(broadcast)  # else its task does, once its call is closed
        broadcast.restart(epoch, remote=True)
        if work is not None:
            work.cancel()

    def promote(self, broadcast: Broadcast[Chunk], log: Log[Chunk]) -> None:
        """Its answer is in the cache by now: served first, taken out of its queue second."""
        self.let_go(broadcast, log.epoch)
        broadcast.append(log.events)
        broadcast.log.made_s = log.made_s
        broadcast.conclude(Outcome.COMPLETED, None)

    def begin(self, broadcast: Broadcast[Chunk]) -> None:
        """Prepare: at once where there is nothing to do and nobody to wait for, else in a task."""
        prompt = self.running[broadcast]
        admission = broadcast.admission
        assert admission is not None
        if admission.permit is not None and not self._preparer.applies(prompt.body):
            broadcast.signal(Signal.GRANTED)
            admission.withdraw()
            self._prepared(broadcast, prompt)
        else:
            broadcast.work = self._supervisor.spawn("prepare", self._prepare(broadcast, prompt))

    def landed(self, key: str, log: Log[Chunk]) -> Broadcast[Chunk]:
        """A cached answer as a broadcast that has already ended."""
        return Broadcast.landed(key, log, self)

    def end_all(self, error: GatewayError, *, led: bool = False) -> None:
        """The process ends: what still runs gets its terminal event now; `led`: only what is made here."""
        self._elsewhere.abdicate_all()
        for broadcast in [one for one in self.running if not (led and one.remote)]:
            for claim in list(broadcast.claims.values()):
                claim.send_home()
            broadcast.fail(error)

    # -- driving ------------------------------------------------------------------------------
    def entered(self, broadcast: Broadcast[Any], before: Phase) -> None:
        """Act on a change of phase. Synchronous: tasks are started and cancelled, never awaited."""
        phase = broadcast.phase
        if broadcast.remote:
            if phase not in RUNNING:
                self._mirror_ended(broadcast)
            self.rest.tell()
            return
        self.outlook.pending += (phase in PENDING) - (before in PENDING)
        if phase is Phase.QUEUED and before is Phase.IDLE:
            self._answer(broadcast, self.running[broadcast])
        elif phase is Phase.IDLE and before is Phase.QUEUED:
            self._give_up_place(broadcast)
            self._stop_work(broadcast)
        elif phase not in RUNNING:
            self._ended(broadcast, before)
            self.rest.tell()
            return
        self._elsewhere.changed(broadcast)
        self.rest.tell()

    def _answer(self, broadcast: Broadcast[Chunk], prompt: Prompt) -> None:
        if prompt.direct is not None:
            broadcast.admission = None
            work = self._directly(broadcast, prompt, prompt.direct)
        else:
            # The place is taken before anybody is told of it; in a back-off there is none to take.
            waits = broadcast.not_before > asyncio.get_running_loop().time()
            broadcast.admission = None if waits else self._llm_streams.admit(broadcast)
            work = self._answering.run(broadcast, self.running)
        broadcast.work = self._supervisor.spawn("answer", work)

    async def _directly(self, broadcast: Broadcast[Chunk], prompt: Prompt, direct: Direct) -> None:
        if not await answer_directly(broadcast, direct, prompt):
            self.running[broadcast] = replace(direct.otherwise, asked=prompt.question)
            await self._answering.run(broadcast, self.running)

    def grew(self, broadcast: Broadcast[Any]) -> None:
        if not broadcast.remote:
            self._elsewhere.changed(broadcast)

    def attended(self, broadcast: Broadcast[Any]) -> None:
        self._elsewhere.attended(broadcast)

    def may_abandon(self, broadcast: Broadcast[Any], *, expired: bool) -> bool:
        return self._elsewhere.may_abandon(broadcast, expired=expired)

    def _mirror_ended(self, mirror: Broadcast[Chunk]) -> None:
        del self.running[mirror]
        assert mirror.key is not None
        assert mirror.end is not None
        self._flights.leave(mirror.key, mirror)
        self._elsewhere.ended(mirror, mirror.end.outcome, mirror.end.error)

    def _ended(self, broadcast: Broadcast[Chunk], before: Phase) -> None:
        if before in (Phase.WAITING, Phase.QUEUED):
            self._give_up_place(broadcast)
        prompt = self.running.pop(broadcast)
        if broadcast.key is not None and broadcast.phase is not Phase.SEALED:
            self._flights.leave(broadcast.key, broadcast)
        if broadcast.phase is Phase.SEALED:
            self._seal(broadcast, aged(prompt, broadcast))
        else:
            self._stop_work(broadcast)
            self._tell_elsewhere(broadcast)

    def _tell_elsewhere(self, broadcast: Broadcast[Chunk]) -> None:
        assert broadcast.end is not None
        self._elsewhere.ended(broadcast, broadcast.end.outcome, broadcast.end.error)

    @staticmethod
    def _give_up_place(broadcast: Broadcast[Chunk]) -> None:
        """Its task may never have started, and then nothing else gives the place back."""
        if broadcast.admission is not None:
            broadcast.admission.withdraw()

    def _stop_work(self, broadcast: Broadcast[Chunk]) -> None:
        work, broadcast.work = broadcast.work, None
        if work is not None and work is not asyncio.current_task():
            work.cancel()

    async def _prepare(self, broadcast: Broadcast[Chunk], prompt: Prompt) -> None:
        admission = broadcast.admission
        assert admission is not None
        try:
            async with admission:
                broadcast.signal(Signal.GRANTED)
                async with asyncio.timeout(self._bounds.prepare_s):
                    prompt = await self._preparer.prepare(prompt, broadcast.show_step)
        except TimeoutError:
            broadcast.fail(PrepareTimeout())
        except GatewayError as error:
            broadcast.fail(error)
        except Exception:
            broadcast.fail(GatewayError())
            raise
        else:
            self._prepared(broadcast, prompt)

    def _prepared(self, broadcast: Broadcast[Chunk], prompt: Prompt) -> None:
        broadcast.work = None
        self.running[broadcast] = prompt
        if prompt.fresh_s is not None:
            broadcast.fresh_until = asyncio.get_running_loop().time() + prompt.fresh_s
        broadcast.signal(Signal.PREPARED)

    def _seal(self, broadcast: Broadcast[Chunk], prompt: Prompt) -> None:
        """Findable by twins until the cache has it; the clients' `done` does not wait for that."""
        key = broadcast.key
        if key is None:
            return
        try:
            accepted = prompt.store and self._sealing.accepts(broadcast.log, prompt.ttl_s)
        except Exception:
            # Whatever is wrong with it: nobody may find it for ever.
            self._flights.leave(key, broadcast)
            self._tell_elsewhere(broadcast)
            raise
        if accepted:
            broadcast.stored = self._sealing.healthy
            broadcast.ttl_s = self._sealing.ttl_s(prompt.ttl_s)
            self._supervisor.spawn("seal", self._store(key, broadcast, prompt))
        else:
            self._flights.leave(key, broadcast)
            self._tell_elsewhere(broadcast)

    async def _store(self, key: str, broadcast: Broadcast[Chunk], prompt: Prompt) -> None:
        self.rest.storing += 1
        try:
            await self._elsewhere.sealed(broadcast, prompt.ttl_s)
        finally:
            self.rest.storing -= 1
            self._flights.land(key, broadcast)
            self.rest.tell()
