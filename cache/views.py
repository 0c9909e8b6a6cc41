"""What the scripts of a flight reply, as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

#: Longer than anything runs.
FOREVER_MS = 10**12


@dataclass(frozen=True, slots=True)
class Ending:
    """The last entry of a log: an outcome, and what is told about it (JSON)."""

    how: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """Some events of a log: the raw chunks of numbers `first`, `first` + 1, …, counted from 1."""

    first: int
    chunks: list[bytes]


@dataclass(frozen=True, slots=True)
class View:
    """A flight as Redis knows it. `left_ms` of its lease, negative once that has lapsed.

    `published`: its leader has written what it had when it was asked. `phase` is JSON, b"" if it has not
    said anything. For `fresh_ms` more others may begin to follow.
    """

    epoch: int
    owner: str
    state: str
    events: int
    published: bool
    phase: bytes
    left_ms: int
    entries: list[Batch | Ending] = field(default_factory=list)
    body: bytes = b""
    interested: int = 0
    fresh_ms: int = FOREVER_MS

    @property
    def live(self) -> bool:
        return self.state == "live"

    @property
    def lapsed(self) -> bool:
        return self.live and self.left_ms < 0


@dataclass(frozen=True, slots=True)
class Others:
    """Of other processes: how many follow, have somebody interested, have somebody connected."""

    following: int = 0
    interested: int = 0
    connected: int = 0


@dataclass(frozen=True, slots=True)
class Pulse:
    """What a beat says of one flight; `epoch` 0 if Redis does not know it."""

    epoch: int
    state: str
    events: int
    left_ms: int
    owner: str
    published: bool
    others: Others


def entries_of(reply: Any) -> list[Batch | Ending]:
    """The entries of XRANGE, in order."""
    return [_entry(id, fields) for id, fields in reply]


def _entry(id: bytes, fields: Sequence[bytes]) -> Batch | Ending:
    values = dict(zip(fields[::2], fields[1::2], strict=True))
    if b"t" in values:
        return Ending(values[b"t"].decode(), values[b"d"])
    chunks = values[b"d"].split(b"\n")
    return Batch(int(id.partition(b"-")[2]) - len(chunks) + 1, chunks)
