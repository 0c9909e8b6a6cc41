"""Idempotent submits: one `request_id` of one tenant is admitted once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from runtime.errors import Conflict


class Entry:
    """One request_id: undecided while its first submit is being admitted."""

    __slots__ = ("decided", "digest", "record_id")

    def __init__(self, digest: str) -> None:
        self.digest = digest
        self.record_id: str | None = None
        self.decided = asyncio.Event()


class Idempotency:
    """(tenant, request_id) → entry, for as long as the record is kept."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], Entry] = {}
        self._by_record: dict[str, tuple[str, str]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    async def known(self, tenant: str, request_id: str, digest: str) -> str | None:
        """The id of the record that this request_id has already; None if the caller is to be the first.

        Waits while another submit of it is being admitted: only that one's success decides.
        Raises Conflict if it was used for another request.
        """
        while (entry := self._entries.get((tenant, request_id))) is not None:
            if entry.digest != digest:
                raise Conflict("This request_id was used for another request.", param="request_id")
            if entry.record_id is not None:
                return entry.record_id
            await entry.decided.wait()
        return None

    @contextmanager
    def first(self, tenant: str, request_id: str, digest: str) -> Iterator[Entry]:
        """Around the admission of the first. Without a record at its end the request_id is not consumed."""
        name = (tenant, request_id)
        entry = self._entries[name] = Entry(digest)
        try:
            yield entry
        finally:
            if entry.record_id is None:
                del self._entries[name]
            else:
                self._by_record[entry.record_id] = name
            entry.decided.set()

    def forget(self, ids: list[str]) -> None:
        """The records with these ids are no longer kept."""
        for id in ids:
            name = self._by_record.pop(id, None)
            if name is not None:
                self._entries.pop(name, None)
