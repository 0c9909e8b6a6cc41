"""Redis' side of shared flights, played: every call is written down, and answered as the test says."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any, cast

from cache.flights import SharedFlights
from cache.views import Batch, Ending, Others, Pulse, View
from upstream.chunk import Chunk, parse_chunk

_DEFAULTS: dict[str, Any] = {"append": Others(), "beat": []}


class FakeLink:
    def __init__(self) -> None:
        self.proc = "me"
        self.up = True
        self.down_for = 0.0
        self.renewed = 0

    def renew_inbox(self) -> None:
        self.renewed += 1


class FakeFlights:
    """`replies[name]` are used up one by one, then the default; an exception among them is raised.

    `calls` has each call as (name, arguments …, options).
    """

    def __init__(self) -> None:
        self.lease_ms = 15_000
        self.guard_s = 2.0
        self.link = FakeLink()
        self.replies: dict[str, list[Any]] = defaultdict(list)
        self.calls: list[tuple[Any, ...]] = []

    @property
    def real(self) -> SharedFlights:
        """For whoever wants the type."""
        return cast(SharedFlights, self)

    def named(self, name: str) -> list[tuple[Any, ...]]:
        return [call[1:] for call in self.calls if call[0] == name]

    def __getattr__(self, name: str) -> Any:
        if name not in vars(SharedFlights):
            raise AttributeError(name)

        async def call(*args: Any, **options: Any) -> Any:
            self.calls.append((name, *args, *((options,) if options else ())))
            await asyncio.sleep(0)
            waiting = self.replies[name]
            reply = waiting.pop(0) if waiting else _DEFAULTS.get(name)
            if isinstance(reply, Exception):
                raise reply
            return reply

        return call


def raw(text: str) -> bytes:
    """A chunk as it is on the wire."""
    return b'{"choices":[{"index":0,"delta":{"content":"%s"}}]}' % text.encode()


def chunk(text: str) -> Chunk:
    return parse_chunk(raw(text))


def view(
    *entries: Batch | Ending,
    epoch: int = 5,
    owner: str = "maker",
    state: str = "live",
    events: int = 0,
    published: bool = True,
    phase: bytes = b"",
    left_ms: int = 1000,
    body: bytes = b"",
    interested: int = 0,
) -> View:
    return View(epoch, owner, state, events, published, phase, left_ms, list(entries), body, interested)


def batch(first: int, *texts: str) -> Batch:
    return Batch(first, [raw(text) for text in texts])


def pulse(
    *,
    epoch: int = 5,
    state: str = "live",
    events: int = 0,
    left_ms: int = 1000,
    owner: str = "maker",
    published: bool = True,
    others: Others | None = None,
) -> Pulse:
    return Pulse(epoch, state, events, left_ms, owner, published, others or Others())
