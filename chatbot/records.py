"""The records: every request that runs, and the native ones for a while after their end."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from itertools import islice
from typing import Any

from broadcast.log import Log
from chatbot.record import Record
from runtime.errors import HistoryGone, NotFound

#: What a kept record weighs beside its log.
RECORD_BYTES = 3072
#: So many evicted ids are still known as such, a quarter of a kilobyte each; older ones are unknown.
MAX_GONE = 100_000


class Records:
    """Bounded by time (then unknown: 404) and by the bytes of the logs kept (oldest first: 410).

    State: `_records` by id, `_kept` in order of their end, `_logs` with how many records share each and
    what was counted for it (a log may grow after a record of it has ended), and of the evicted, in
    `_gone`, only the tenant and when to forget them.
    """

    def __init__(self, retention_s: float, retention_bytes: int) -> None:
        self._retention_s = retention_s
        self._retention_bytes = retention_bytes
        self._records: dict[str, Record] = {}
        self._kept: OrderedDict[str, float] = OrderedDict()  # id → loop time of forgetting
        self._gone: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._forgotten: list[str] = []
        self._logs: dict[Log[Any], tuple[int, int]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._records)

    def __repr__(self) -> str:
        running = len(self._records) - len(self._kept)
        return f"<Records [{running} running, {len(self._kept)} kept, {self._bytes} bytes]>"

    def add(self, record: Record) -> None:
        self._records[record.ticket.id] = record

    def peek(self, id: str) -> Record | None:
        return self._records.get(id)

    def running(self) -> list[Record]:
        return [record for id, record in self._records.items() if id not in self._kept]

    def newest(self, count: int) -> list[Record]:
        """Of those that are kept after their end."""
        return [self._records[id] for id in islice(reversed(self._kept), count)]

    def forget(self, id: str) -> None:
        """A kept one that is no longer right."""
        if id in self._kept:
            self._drop(id)

    def drop(self, id: str) -> None:
        """A guest that is no longer read here."""
        if id not in self._kept:
            self._records.pop(id, None)

    def find(self, id: str, tenant: str) -> Record:
        """Raises NotFound, the same for a foreign and for an unknown id."""
        record = self._records.get(id)
        if record is None or record.ticket.tenant != tenant:
            raise NotFound("There is no such chat.")
        return record

    def read(self, id: str, tenant: str) -> Record:
        """As `find`, but HistoryGone where the id is all that is left."""
        if id in self._gone and self._gone[id][0] == tenant:
            raise HistoryGone()
        return self.find(id, tenant)

    def ended(self, record: Record) -> None:
        """Keep a native record, forget another."""
        id = record.ticket.id
        if not record.native:
            self._records.pop(id, None)
            return
        self._kept[id] = asyncio.get_running_loop().time() + self._retention_s
        self._bytes += RECORD_BYTES
        log = record.broadcast.log
        sharers, counted = self._logs.get(log, (0, 0))
        self._logs[log] = (sharers + 1, log.weight)
        self._bytes += log.weight - counted
        self._shrink()

    def sweep(self) -> list[str]:
        """Forget what retention has ended for; returns the ids."""
        now = asyncio.get_running_loop().time()
        while self._kept and next(iter(self._kept.values())) <= now:
            id = next(iter(self._kept))
            self._drop(id)
            self._forgotten.append(id)
        while self._gone and (len(self._gone) > MAX_GONE or next(iter(self._gone.values()))[1] <= now):
            self._forgotten.append(self._gone.popitem(last=False)[0])
        self._shrink()
        forgotten, self._forgotten = self._forgotten, []
        return forgotten

    def _shrink(self) -> None:
        """Who is read while it should go goes at a later sweep."""
        while self._bytes > self._retention_bytes and (oldest := self._evictable()) is not None:
            self._gone[oldest] = (self._records[oldest].ticket.tenant, self._kept[oldest])
            self._drop(oldest)

    def _evictable(self) -> str | None:
        """The oldest that nobody reads just now."""
        return next((id for id in self._kept if self._records[id].claim.connections == 0), None)

    def _drop(self, id: str) -> None:
        """Let go of a kept record, and of its log if it was the last to share it."""
        record = self._records.pop(id)
        del self._kept[id]
        self._bytes -= RECORD_BYTES
        log = record.broadcast.log
        sharers, counted = self._logs[log]
        if sharers > 1:
            self._logs[log] = (sharers - 1, counted)
        else:
            del self._logs[log]
            self._bytes -= counted
