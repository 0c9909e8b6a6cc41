"""HTTP as this package needs it: the only module that imports the HTTP client.

Why aiohttp, and what it had to survive, stands in docs/design/http-client.md.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Mapping
from typing import Final

import aiohttp
import yarl

_DRAIN_BYTES: Final = 65_536
_LARGE_BODY_BYTES: Final = 1024 * 1024


class TransportError(Exception):
    """The exchange failed below the meaning of any status or body."""


class NoReply(TransportError):
    """No response came: name look-up, connect or TLS failed, or the peer closed before its headers."""


class NotHttp(TransportError):
    """What came is not HTTP, or more than was asked for."""


class BrokenReply(TransportError):
    """The body ended before its own framing said so."""


class _AbortingResponse(aiohttp.ClientResponse):
    """A response whose close cuts the connection now.

    aiohttp closes gracefully, which first sends what is buffered and says goodbye in TLS: with a
    peer that has stopped reading, a cancelled call would then keep its socket for ever.
    """

    def close(self) -> None:
        connection = self.connection
        if connection is not None and connection.transport is not None:
            connection.transport.abort()
        super().close()


class Reply:
    """A response whose headers are there. Whoever got it calls `close`, on every way out."""

    __slots__ = ("_content", "_owner", "_response", "status")

    def __init__(self, response: aiohttp.ClientResponse, owner: set[Reply]) -> None:
        self.status = response.status
        self._response = response
        self._content = response.content
        self._owner = owner
        owner.add(self)

    def header(self, name: str) -> str | None:
        value: str | None = self._response.headers.get(name)
        return value

    async def read(self) -> bytes:
        """What has arrived, at least one byte; b"" at the end. Raises `BrokenReply`, or what `fail` got."""
        try:
            return await self._content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise BrokenReply(str(error)) from error

    async def read_all(self, limit: int) -> bytes:
        """The whole body. Raises `NotHttp` as soon as it is longer than `limit` bytes, and `BrokenReply`."""
        pieces: list[bytes] = []
        size = 0
        while piece := await self.read():
            size += len(piece)
            if size > limit:
                raise NotHttp(f"the body is longer than {limit} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    async def drain(self, seconds: float) -> None:
        """Read to the end, so that the connection can serve again; give up after `seconds` or 64 KiB."""
        try:
            async with asyncio.timeout(seconds):
                await self.read_all(_DRAIN_BYTES)
        except (TransportError, TimeoutError):
            return

    def fail(self, error: BaseException) -> None:
        """Make the waiting read, or the next one, raise `error`."""
        self._content.set_exception(error)

    def close(self) -> None:
        """Give the connection back if the body has been read to its end, else cut it at once. Idempotent."""
        self._owner.discard(self)
        self._response.close()


class Transport:
    """At most `connections` at a time, kept for the next request if `keep_alive`.

    The pool is opened with the first request, in the loop that makes it. `connect_timeout` (seconds)
    bounds name look-up, connect and TLS.
    """

    def __init__(self, connections: int, connect_timeout: float, *, keep_alive: bool = True) -> None:
        self.connections = connections
        self._keep_alive = keep_alive
        self._connect_timeout = connect_timeout
        self._session: aiohttp.ClientSession | None = None
        self._replies: set[Reply] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Transport {len(self._replies)} replies open, at most {self.connections} connections>"

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> Reply:
        """Send a request and wait for the response's headers. Raises `NoReply` or `NotHttp`."""
        if self._closed:
            raise NoReply("closed")
        session = self._session = self._session or self._open()
        try:
            response = await session.request(
                method, yarl.URL(url), data=_payload(body), headers=headers, allow_redirects=False
            )
        except aiohttp.ClientResponseError as error:
            raise NotHttp(error.message) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # ValueError: a host name that no encoding knows.
            raise NoReply(type(error).__name__) from error
        return Reply(response, self._replies)

    async def close(self) -> None:
        """Close every connection. Who still reads a reply gets `BrokenReply`. Idempotent."""
        self._closed = True
        for reply in tuple(self._replies):
            reply.fail(BrokenReply("closed"))
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=self.connections,
            force_close=not self._keep_alive,
            # Threads, not the loop: a slow name server must stall nobody but its caller.
            resolver=aiohttp.ThreadedResolver(),
        )
        return aiohttp.ClientSession(
            connector=connector,
            response_class=_AbortingResponse,
            # A cookie that one tenant's answer sets must not travel with another tenant's question.
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None, connect=self._connect_timeout),
            headers={"User-Agent": "refrain", "Accept-Encoding": "identity"},
        )


def _payload(body: bytes | None) -> bytes | io.BytesIO | None:
    """A large body is sent piece by piece, as the peer takes it, not in one write that stalls the loop."""
    return io.BytesIO(body) if body is not None and len(body) > _LARGE_BODY_BYTES else body
