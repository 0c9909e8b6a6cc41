"""What becomes of a broadcast that is made here when Redis says that another leads its key, or has answered.

That happens after a process was frozen or cut off past its lease. With nothing shown, the other's answer is
as good as ours; with text shown, ours goes on for its own readers alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from broadcast.broadcast import Broadcast
from broadcast.leading import Leading
from broadcast.log import Log
from broadcast.manager import BroadcastManager
from broadcast.mirror import Mirror
from broadcast.sealing import log_of
from cache.codec import decode
from cache.errors import StoreError
from cache.flights import Hit, SharedFlights
from cache.views import View
from processing.flights import Flights
from runtime.supervisor import Supervisor
from upstream.chunk import Chunk


class Leads(Protocol):
    """What this asks of the relay."""

    flights: SharedFlights
    manager: BroadcastManager
    on_moved: Callable[[Broadcast[Chunk]], None]

    def detach(self, leading: Leading) -> None: ...

    def mirror(self, broadcast: Broadcast[Chunk], view: View, body: dict[str, Any] | None) -> Mirror: ...


class Overruled:
    def __init__(self, relay: Leads, table: Flights[Broadcast[Chunk]], supervisor: Supervisor) -> None:
        self._relay = relay
        self._table = table
        self._supervisor = supervisor

    def act(self, leading: Leading, found: View | Hit | None) -> None:
        """`found`: who leads it or what it has answered; None if Redis did not say."""
        broadcast = leading.broadcast
        if not broadcast.running or len(broadcast.log):
            self._relay.detach(leading)
        elif isinstance(found, View):
            self._let_go(leading, found)
        elif isinstance(found, Hit):
            answer = decode(found.value, leading.key)
            self._promote(leading, None if answer is None else log_of(answer))
        else:
            broadcast.log.contested = True
            self._supervisor.spawn("relay:look", self._look(leading))

    def _promote(self, leading: Leading, sealed: Log[Chunk] | None) -> None:
        self._relay.detach(leading)
        if sealed is not None:
            self._table.claim(leading.key, leading.broadcast)
            self._relay.manager.promote(leading.broadcast, sealed)

    def _let_go(self, leading: Leading, view: View) -> None:
        """What waits here for a slot gives its place back and follows the other."""
        manager, broadcast = self._relay.manager, leading.broadcast
        body = manager.running[broadcast].question
        self._relay.detach(leading)
        manager.let_go(broadcast, view.epoch)
        self._table.claim(leading.key, broadcast)
        self._relay.mirror(broadcast, view, body).attended()
        self._relay.on_moved(broadcast)

    async def _look(self, leading: Leading) -> None:
        flights, broadcast = self._relay.flights, leading.broadcast
        try:
            view = await flights.attach(leading.key, broadcast.stake)
        except StoreError:
            return
        if leading.detached or not broadcast.running or len(broadcast.log):
            return
        if view is not None and view.live and view.owner != flights.link.proc:
            if view.fresh_ms:
                self._let_go(leading, view)
            else:
                self._relay.detach(leading)  # what the other has found is too old for those who ask here
        else:
            leading.registered = broadcast.log.contested = False
            leading.touch()
