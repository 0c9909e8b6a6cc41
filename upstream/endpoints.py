"""HTTP endpoints that are tools: one exchange each, over a bounded pool, by the rules of `upstream.hook`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from upstream.transport import NotHttp, Reply, Transport, TransportError

CONNECT_S: Final = 10.0


class EndpointFailed(Exception):
    """The exchange came to nothing. The message is our own text; `again`: another try may do better."""

    def __init__(self, message: str, *, again: bool) -> None:
        super().__init__(message)
        self.again = again


class EndpointReply:
    """`status`, and a body that is read once. Redirects are replies like any other: nothing is followed."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self.status = reply.status

    async def pieces(self, limit: int) -> AsyncGenerator[bytes, None]:
        """The body as it comes. Raises EndpointFailed if it breaks off, or as soon as it exceeds `limit`
        bytes.
        """
        size = 0
        while piece := await _sound(self._reply):
            size += len(piece)
            if size > limit:
                raise EndpointFailed(f"the reply is longer than {limit} bytes", again=False)
            yield piece


class Endpoints:
    """All endpoints of a process share at most `connections`."""

    def __init__(self, connections: int) -> None:
        # Fresh connections, as for the hook: a kept one that the server closes just now would fail a call
        # that may not be made twice.
        self._transport = Transport(connections, CONNECT_S, keep_alive=False)

    def __repr__(self) -> str:
        return f"<Endpoints {self._transport!r}>"

    @asynccontextmanager
    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> AsyncIterator[EndpointReply]:
        """One exchange; leaving the block early cuts its connection. Raises EndpointFailed if no reply comes.

        It has no time limit: the caller bounds it.
        """
        try:
            reply = await self._transport.send(method, url, headers, body)
        except NotHttp:
            raise EndpointFailed("the reply is not HTTP", again=False) from None
        except TransportError:
            raise EndpointFailed("there was no reply", again=True) from None
        try:
            yield EndpointReply(reply)
        finally:
            reply.close()

    async def close(self) -> None:
        """Close its connections. Idempotent."""
        await self._transport.close()


async def _sound(reply: Reply) -> bytes:
    try:
        return await reply.read()
    except TransportError:
        raise EndpointFailed("the reply broke off", again=True) from None
