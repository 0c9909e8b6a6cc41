"""One HTTP exchange on a raw ASGI route: its headers, its answer, its client's presence.

Hot routes are raw ASGI apps: a FastAPI route costs more than the whole of a cache hit.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.types import Message, Receive, Scope, Send

from app.errors import body_of, headers_of, status_of
from runtime.errors import GatewayError

if TYPE_CHECKING:
    from app.telemetry.requests import RequestSpan

log = logging.getLogger("refrain.app")

Headers = list[tuple[bytes, bytes]]
#: Where a scope has the span of its request, if it has one.
SPAN = "refrain.span"


class ClientGone(Exception):
    """The client left before its request was complete: there is nobody to answer."""


class Exchange:
    """`headers` has the first value of each, names in lower case."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive = receive
        self._send = send
        self.started = False
        self.span: RequestSpan | None = scope.get(SPAN)
        self.headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            self.headers.setdefault(name, value)

    @property
    def head(self) -> bool:
        return bool(self.scope["method"] == "HEAD")

    @property
    def id(self) -> str:
        """The `{id}` of the path."""
        return str(self.scope["path_params"]["id"])

    def header(self, name: bytes) -> str:
        return self.headers.get(name, b"").decode("latin-1")

    def list_header(self, name: bytes) -> str:
        """All lines of a list header as one."""
        return b", ".join([value for given, value in self.scope["headers"] if given == name]).decode(
            "latin-1"
        )

    async def send(self, message: Message) -> None:
        self.started = True
        await self._send(message)

    async def respond(self, status: int, body: bytes = b"", headers: Headers | None = None) -> None:
        """A whole answer at once, JSON unless the headers say otherwise."""
        all_headers: Headers = [(b"content-length", b"%d" % len(body)), *(headers or ())]
        if body and not any(name == b"content-type" for name, _ in all_headers):
            all_headers.append((b"content-type", b"application/json"))
        await self.send({"type": "http.response.start", "status": status, "headers": all_headers})
        await self.send({"type": "http.response.body", "body": b"" if self.head else body})

    async def empty(self, status: int, headers: Headers | None = None) -> None:
        """Headers alone: a 204, or the answer to HEAD of something whose length nobody knows."""
        await self.send({"type": "http.response.start", "status": status, "headers": list(headers or ())})
        await self.send({"type": "http.response.body", "body": b""})

    async def stream_at_once(self, body: bytes, headers: Headers) -> None:
        """A stream that is over already: no length, as on every stream, and one write."""
        await self.send({"type": "http.response.start", "status": 200, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    async def json(self, status: int, body: Mapping[str, Any], headers: Headers | None = None) -> None:
        await self.respond(status, msgspec.json.encode(body), headers)

    async def fail(self, error: GatewayError) -> None:
        if self.span is not None:
            self.span.failed(error)
        await self.respond(status_of(error), body_of(error), headers_of(error))

    def abort(self) -> None:
        """Drop the connection without another byte, if the server offers that (see `app/server.py`)."""
        connection = self.scope.get("extensions", {}).get("refrain.connection")
        if connection is not None:
            connection["abort"]()

    def unsent(self) -> int:
        """Bytes that have been written and that the client has not taken; 0 if the server does not say."""
        connection = self.scope.get("extensions", {}).get("refrain.connection")
        return 0 if connection is None else int(connection["unsent"]())


class Endpoint:
    """A handler of exchanges as an ASGI app: errors become answers here."""

    def __init__(self, handler: Callable[[Exchange], Awaitable[None]]) -> None:
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send)
        try:
            await self._handler(exchange)
        except ClientGone:
            return
        except GatewayError as error:
            if not exchange.started:
                await exchange.fail(error)
        except Exception:
            log.exception("a request failed unexpectedly")
            if exchange.span is not None:
                exchange.span.failed(GatewayError())
            if exchange.started:
                exchange.abort()
            else:
                await exchange.fail(GatewayError())
