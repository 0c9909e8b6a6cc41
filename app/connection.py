"""A streaming connection: writes piece by piece, notices that its client left, is cut if it stalls."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from app import sse
from app.exchange import Exchange, Headers
from app.pulse import Pulse
from broadcast.subscription import Subscription
from runtime.supervisor import Supervisor
from upstream.chunk import Chunk

#: A stream is never silent for longer, also while its request is queued.
SILENCE_S: Final = 10.0
#: A server's send() waits before it writes, not after. So a last piece larger than this, which is
#: uvicorn's high-water mark, is followed by an empty one, which waits until the client has taken it.
LARGE: Final = 65_536


class Connections:
    """All open streams. `send_timeout_s` bounds one write; `len()` is how many are open."""

    def __init__(self, supervisor: Supervisor, pulse: Pulse, send_timeout_s: float) -> None:
        self._supervisor = supervisor
        self._pulse = pulse
        self.send_timeout_s = send_timeout_s
        self.cut = 0
        self._none_open = asyncio.Event()
        self._none_open.set()

    def __len__(self) -> int:
        return len(self._pulse)

    async def quiet(self) -> None:
        """Until no stream is open."""
        await self._none_open.wait()

    @contextmanager
    def watch(self, exchange: Exchange, subscription: Subscription[Chunk]) -> Iterator[Connection]:
        """Around the life of one stream: its subscription is closed the moment the client leaves."""
        connection = Connection(exchange, subscription, self)
        watcher = self._supervisor.spawn("watch", connection.until_gone())
        self._pulse.add(connection)
        self._none_open.clear()
        try:
            yield connection
        finally:
            self._pulse.discard(connection)
            if not len(self):
                self._none_open.set()
            watcher.cancel()
            subscription.close()


class Connection:
    """State: the write under way (since when, how much of it is left), and when the last one ended."""

    def __init__(self, exchange: Exchange, subscription: Subscription[Chunk], owner: Connections) -> None:
        self._exchange = exchange
        self._subscription = subscription
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._sending_since: float | None = None  # or since its client last took something of it
        self._unsent: int | None = None
        self._last_sent = self._loop.time()
        self.waiting = True  #: its request waits: look for a change at every beat

    @property
    def silent(self) -> bool:
        return self._loop.time() - self._last_sent >= SILENCE_S

    async def open(self, headers: Headers) -> None:
        """The 200. From here on nothing but the stream itself can tell the client anything."""
        await self._send({"type": "http.response.start", "status": 200, "headers": [*sse.HEADERS, *headers]})

    async def write(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def close(self, data: bytes = b"") -> None:
        """The last piece and the proper end of the body, in one write if it is small."""
        if len(data) > LARGE:
            await self.write(data)
            data = b""
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def respond(self, status: int, body: bytes, headers: Headers) -> None:
        """A whole answer in JSON, under the same send timeout as a stream's pieces."""
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    (b"content-type", b"application/json"),
                    (b"content-length", b"%d" % len(body)),
                    *headers,
                ],
            }
        )
        await self.close(body)

    async def _send(self, message: dict[str, object]) -> None:
        # A server's send() says nothing when the client has left: `closed` is how we know.
        if self._subscription.closed:
            return
        self._sending_since = self._loop.time()
        self._unsent = None
        try:
            await self._exchange.send(message)
        finally:
            self._sending_since = None
            self._last_sent = self._loop.time()

    async def until_gone(self) -> None:
        while (await self._exchange.receive())["type"] != "http.disconnect":
            pass
        self._subscription.close()

    def beat(self, now: float) -> None:
        if self._sending_since is not None:
            self._look_at_progress(now, self._sending_since)
        elif self.waiting or now - self._last_sent >= SILENCE_S:
            self._subscription.wake()

    def _look_at_progress(self, now: float, since: float) -> None:
        """Cut a reader that takes nothing; a slow one is not that, however long its piece takes."""
        before, self._unsent = self._unsent, self._exchange.unsent()
        if before is not None and self._unsent < before:
            self._sending_since = now
        elif now - since > self._owner.send_timeout_s:
            self._owner.cut += 1
            self._subscription.close()
            self._exchange.abort()
