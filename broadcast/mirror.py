"""A broadcast that another process makes: the same log, pulled. A hint says when, a beat says it again.

What is pulled follows the cursor, so a lost or doubled hint costs time and never an event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec

from broadcast.broadcast import Broadcast
from broadcast.outcome import Outcome
from broadcast.owner import error_from
from broadcast.shown import hear
from cache.flights import MAX_ENTRIES, SharedFlights
from cache.views import Batch, Ending, Pulse, View
from upstream.chunk import Chunk, parse_chunk

#: Between two looks for what a reader has seen already.
LOOK_S = 0.02
#: Between two looks for what one round trip brings.
SOON_S = 0.002
#: How a broadcast ends that nobody anywhere is interested in.
_UNWANTED = (Outcome.CANCELLED, Outcome.EXPIRED)


_decoder = msgspec.json.Decoder(dict[str, Any])


class Follower(Protocol):
    """What a Mirror asks of the relay."""

    flights: SharedFlights

    def leader_gone(self, mirror: Mirror) -> None:
        """Its lease has lapsed, or its process is known to be dead."""

    def still_wanted(self, mirror: Mirror) -> None:
        """It has ended for want of interest, and there is some here."""

    def is_dead(self, proc: str) -> bool: ...


class Mirror:
    """State: which epoch and how many events of it are here (the log's own), who makes it (`maker`),
    whether what its maker had has been published (`published`), and what stake Redis has been told of.
    """

    def __init__(
        self,
        broadcast: Broadcast[Chunk],
        owner: Follower,
        *,
        body: dict[str, Any] | None,
        run: Callable[[str, Callable[[], Awaitable[None]]], object],
    ) -> None:
        assert broadcast.key is not None
        self.broadcast = broadcast
        self.key = broadcast.key
        self.body = body
        self.maker = ""
        self.published = False
        self.heard = False  #: which phase its maker is in
        self.orphan_since: float | None = None  #: Redis knows nothing of it
        self._gap_since: float | None = None
        self.taking_over = False
        self.staked = ""  #: unknown: what a mirror before this one had may still be there
        self.pulling = False
        self.staking = False
        self._owner = owner
        self._run = run
        self._dirty = False
        self._pulls = 0

    def __repr__(self) -> str:
        return f"<Mirror {self.key[:12]} of {self.maker} [{len(self.broadcast.log)} events]>"

    @property
    def over(self) -> bool:
        return not self.broadcast.running or not self.broadcast.remote

    # -- pulling ------------------------------------------------------------------------------
    def pull(self) -> None:
        """There may be something new."""
        self._dirty = True
        if not self.pulling and not self.over:
            self.pulling = True
            self._run("relay:pull", self.run_pull)

    async def run_pull(self) -> None:
        """Run by a task of the relay. Raises StoreError: later, then."""
        try:
            while self._dirty and not self.over:
                self._dirty = False
                log = self.broadcast.log
                view = await self._owner.flights.pull(self.key, log.epoch, len(log))
                if not self.over:
                    self.saw(view)
                self._pulls += 1
        finally:
            self.pulling = False

    def saw(self, view: View | None) -> None:
        """What Redis knows: apply it."""
        loop = asyncio.get_running_loop()
        if view is None:
            self.orphan_since = self.orphan_since or loop.time()
            return
        if view.epoch < self.broadcast.log.epoch and (len(self.broadcast.log) or not view.live):
            # Redis has gone back to what it was: as if it had forgotten.
            self.orphan_since = self.orphan_since or loop.time()
            return
        self.orphan_since = None
        if view.epoch != self.broadcast.log.epoch:
            # Another has taken over: what we have is void.
            self.published = False
            self.broadcast.restart(view.epoch, remote=True)
        self.broadcast.fresh_until = loop.time() + view.fresh_ms / 1000
        self.maker, self.published = view.owner, view.published
        if view.body and self.body is None:
            self.body = _body(view.body)
        if view.live and view.phase:
            hear(self.broadcast, view.phase, loop.time())
            self.heard = True
        self._apply(view)
        if not self.over and (view.lapsed or (view.live and self._owner.is_dead(view.owner))):
            self._owner.leader_gone(self)

    def _apply(self, view: View) -> None:
        for entry in view.entries:
            if isinstance(entry, Ending):
                whole = entry.how != Outcome.COMPLETED or len(self.broadcast.log) == view.events
                self.ended(entry.how if whole else Outcome.FAILED, entry.payload if whole else b"")
                return
            if not self._append(entry):
                self._gap(ended=not view.live)
                return
        self._gap_since = None
        if len(view.entries) == MAX_ENTRIES:
            self._dirty = True
        elif not view.live:
            # It ended, and how is not in its log: somebody has deleted what we have not read.
            self.ended(Outcome.FAILED, b"")

    def _append(self, batch: Batch) -> bool:
        """False: there is a gap before it."""
        log = self.broadcast.log
        new = len(log) - batch.first + 1
        if new < 0:
            return False
        chunks = [parse_chunk(raw) for raw in batch.chunks[new:]]
        if chunks:
            self.broadcast.append(chunks)
        return True

    def _gap(self, *, ended: bool) -> None:
        """What we miss has been evicted. Its maker writes it again; one that has ended does not."""
        now = asyncio.get_running_loop().time()
        self._gap_since = self._gap_since or now
        if ended or now - self._gap_since > 2 * self._owner.flights.lease_ms / 1000:
            self.ended(Outcome.FAILED, b"")
        else:
            self._run("relay:stake", self._ask_again)

    async def _ask_again(self) -> None:
        await self._owner.flights.stake(self.key, self.broadcast.stake)

    def ended(self, how: str, payload: bytes) -> None:
        """As its maker says, or as a lapsed lease makes us say."""
        outcome = Outcome(how)
        if outcome in _UNWANTED and self.wanted and self.body is not None:
            # Its maker had not heard yet of who has just come here.
            self._owner.still_wanted(self)
            return
        error = None if outcome in (Outcome.COMPLETED, Outcome.CANCELLED) else error_from(payload, outcome)
        self.broadcast.conclude(outcome, error)

    # -- beats --------------------------------------------------------------------------------
    def beaten(self, pulse: Pulse) -> bool:
        """Whether there was progress that no hint has told."""
        if self.over:
            return False
        if pulse.epoch == 0:
            self.pull()
            return False
        log = self.broadcast.log
        news = pulse.epoch != log.epoch or pulse.events > len(log)
        untold = news and not self.pulling
        if news or pulse.state != "live" or pulse.published != self.published or pulse.left_ms < 0:
            self.pull()
        elif self._owner.is_dead(pulse.owner):
            self._owner.leader_gone(self)
        return untold

    # -- waiting ------------------------------------------------------------------------------
    async def catch_up(self, within_s: float) -> None:
        """Until all is here that Redis knows now, or it cannot be asked."""
        loop = asyncio.get_running_loop()
        until = loop.time() + within_s
        wanted = self._pulls + 1 + self.pulling  # one that is under way may have been answered before
        self.pull()
        while self.pulling and self._pulls < wanted and loop.time() < until:  # noqa: ASYNC110
            await asyncio.sleep(SOON_S)

    async def until_reached(self, epoch: int, seq: int, within_s: float) -> None:
        """What a reader has seen may be on its way to us, as may a takeover, or be void by now."""
        log, until = self.broadcast.log, asyncio.get_running_loop().time() + within_s
        while not self.over and asyncio.get_running_loop().time() < until:
            if (epoch, seq) <= (log.epoch, log.seq):
                return
            self.pull()
            await asyncio.sleep(LOOK_S)

    # -- the stake ----------------------------------------------------------------------------
    def attended(self) -> None:
        if self.broadcast.stake != self.staked and not self.staking and not self.over:
            self.staking = True
            self._run("relay:stake", self.run_stake)

    async def run_stake(self) -> None:
        """Tell Redis, and with it the maker, who is here. Raises StoreError: a beat says it again."""
        try:
            while not self.over and (stake := self.broadcast.stake) != self.staked:
                self.staked = stake
                dismissed = self.broadcast.dismissed and "i" not in stake
                await self._owner.flights.stake(self.key, stake, dismissed=dismissed)
        finally:
            self.staking = False

    # -- takeover -----------------------------------------------------------------------------
    @property
    def wanted(self) -> bool:
        """Is anybody here interested? Who only asks for its status is not."""
        return "i" in self.broadcast.stake

    @property
    def worthwhile(self) -> bool:
        """Is there anybody whom a new answer could serve? Not an OpenAI reader who has seen text."""
        if any(not claim.attached for claim in self.broadcast.claims.values()):
            return True
        return not self.broadcast.readers or any(reader.cursor == 0 for reader in self.broadcast.readers)


def _body(raw: bytes) -> dict[str, Any] | None:
    try:
        return _decoder.decode(raw)
    except msgspec.MsgspecError:
        return None
