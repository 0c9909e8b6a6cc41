"""How a request has ended, as other processes tell it: pushed by its owner, recalled by who reads it here."""

from __future__ import annotations

import asyncio

from broadcast.guest import GuestClaim
from cache.errors import StoreError
from cache.requests import SharedRequests
from chatbot import told
from chatbot.record import Record
from chatbot.records import Records
from runtime.errors import Conflict, Draining, WorkerLost
from runtime.supervisor import Supervisor


class Endings:
    """State: the errors by which an end that all share is believed, though the flight may yet go on."""

    def __init__(self, requests: SharedRequests, records: Records, supervisor: Supervisor) -> None:
        self._requests = requests
        self._records = records
        self._supervisor = supervisor
        self._over = {WorkerLost.code}

    def told(self, id: str) -> None:
        """Pushed: it has ended somewhere."""
        record = self._records.peek(id)
        if record is not None and record.claim.ended is None:
            self.look(record)

    def look(self, record: Record) -> None:
        self._supervisor.spawn("guest:end", self._look(record))

    def last_words(self) -> None:
        """This process ends: what has ended with its own is no longer continued here by another's."""
        self._over.add(Draining.code)
        for record in self._records.running():
            if record.guest:
                self.look(record)

    async def _look(self, record: Record) -> None:
        try:
            known = await self._requests.recall(record.ticket.id)
        except StoreError:
            return
        if known is not None:
            self.apply(record, known.end)

    def apply(self, record: Record, raw: bytes | None) -> None:
        """End it here as it has ended everywhere; with its broadcast it ends by itself."""
        if not raw:
            return
        end = told.read_ended(raw)
        if record.guest and end.timings:
            record.told = end.timings  # its own process has measured them
        if record.claim.ended is not None:
            return
        if end.shared and (end.code not in self._over or not record.guest):
            if isinstance(record.claim, GuestClaim):
                record.claim.let_go()  # it has, if it was held back for this word
            return  # with its broadcast; and whoever has it knows better than those who missed it
        if end.outcome == "cancelled":
            record.claim.cancel(end.reason or "cancelled")
        else:
            record.claim.finish_alone(told.end_of(end, asyncio.get_running_loop().time()))


def refuse_unless_cancelled(record: Record) -> Record:
    """Raises Conflict."""
    ended = record.claim.ended
    if ended is None or ended.reason is None:
        raise Conflict("This chat has already ended.")
    return record
