"""The records: every request that runs, and the native ones for a while after their end."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any

from broadcast.log import Log
from chatbot.record import Record
from runtime.errors import HistoryGone, NotFound

#: What a kept record weighs beside its log.
RECORD_BYTES = 2048


class Records:
    """Bounded by time (then unknown: 404) and by the bytes of the logs kept (oldest first: 410).

    State: `_records` by id, `_kept` in order of their end, `_logs` with how many records
    share each and what was counted for it: a log may grow after a record of it has ended.
    """

    def __init__(self, retention_s: float, retention_bytes: int) -> None:
        self._retention_s = retention_s
        self._retention_bytes = retention_bytes
        self._records: dict[str, Record] = {}
        self._kept: OrderedDict[str, float] = OrderedDict()  # id → loop time of forgetting
        self._full: OrderedDict[str, None] = OrderedDict()  # of those, the ones with their log
        self._logs: dict[Log[Any], tuple[int, int]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._records)

    def __repr__(self) -> str:
        running = len(self._records) - len(self._kept)
        return f"<Records [{running} running, {len(self._kept)} kept, {self._bytes} bytes]>"

    def add(self, record: Record) -> None:
        self._records[record.ticket.id] = record

    def find(self, id: str, tenant: str) -> Record:
        """Raises NotFound, the same for a foreign and for an unknown id."""
        record = self._records.get(id)
        if record is None or record.ticket.tenant != tenant:
            raise NotFound("There is no such chat.")
        return record

    def read(self, id: str, tenant: str) -> Record:
        """As `find`, for whoever needs the history: HistoryGone where only the id is left."""
        record = self.find(id, tenant)
        if record.gone:
            raise HistoryGone()
        return record

    def ended(self, record: Record) -> None:
        """Keep a native record, forget another."""
        id = record.ticket.id
        if not record.native:
            self._records.pop(id, None)
            return
        self._kept[id] = asyncio.get_running_loop().time() + self._retention_s
        self._full[id] = None
        self._bytes += RECORD_BYTES
        log = record.broadcast.log
        sharers, counted = self._logs.get(log, (0, 0))
        self._logs[log] = (sharers + 1, log.weight)
        self._bytes += log.weight - counted
        self._shrink()

    def sweep(self) -> list[str]:
        """Forget what retention has ended for; returns the ids."""
        now = asyncio.get_running_loop().time()
        forgotten = []
        while self._kept:
            id, until = next(iter(self._kept.items()))
            if until > now:
                break
            del self._kept[id]
            if id in self._full:
                self._evict(id)
            del self._records[id]
            forgotten.append(id)
        self._shrink()
        return forgotten

    def _shrink(self) -> None:
        """Who is read while it should go goes at a later sweep."""
        while self._bytes > self._retention_bytes and (oldest := self._evictable()) is not None:
            self._evict(oldest)

    def _evictable(self) -> str | None:
        """The oldest that nobody reads just now."""
        return next((id for id in self._full if self._records[id].claim.connections == 0), None)

    def _evict(self, id: str) -> None:
        record = self._records[id]
        del self._full[id]
        record.gone = True
        self._bytes -= RECORD_BYTES
        log = record.broadcast.log
        sharers, counted = self._logs[log]
        if sharers > 1:
            self._logs[log] = (sharers - 1, counted)
        else:
            del self._logs[log]
            self._bytes -= counted
        record.forget()
