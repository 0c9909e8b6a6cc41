"""One HTTP exchange over raw ASGI: its body, its reply, and whether the client is still there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from upstream.simulator.refusal import Refusal

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]

JSON = b"application/json"
EVENT_STREAM = b"text/event-stream; charset=utf-8"
MAX_BODY_BYTES = 64 * 1024 * 1024

_SIMULATED: Header = (b"x-refrain-simulated", b"1")


class ClientLeft(Exception):
    """The client closed its connection; nobody is there to answer."""


class Exchange:
    """A request and its reply. Every reply says by a header that it is simulated."""

    def __init__(self, scope: Message, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send

    @property
    def method(self) -> str:
        return str(self._scope["method"])

    @property
    def path(self) -> str:
        return str(self._scope["path"])

    @property
    def client(self) -> tuple[str, int] | None:
        """The connection's other end, where the server knows it."""
        peer = self._scope.get("client")
        return (peer[0], peer[1]) if peer else None

    def query(self) -> dict[str, str]:
        """The query parameters; the last value of a name wins."""
        return dict(parse_qsl(self._scope["query_string"].decode("latin-1"), keep_blank_values=True))

    async def body(self) -> bytes:
        """The whole body. Raises `ClientLeft`, or `Refusal` (413) beyond `MAX_BODY_BYTES`."""
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > MAX_BODY_BYTES:
                raise Refusal(413, "The request body is too large.", code="body_too_large")
            more = message.get("more_body", False)
        return b"".join(parts)

    async def while_connected(self, work: Coroutine[Any, Any, None], on_left: Callable[[], None]) -> None:
        """Run `work`; the moment the client leaves, call `on_left` and cancel it. Call after `body()`.

        An exception of `work` comes out in an `ExceptionGroup`: only bugs should get here.
        """
        try:
            async with asyncio.TaskGroup() as group:
                watcher = group.create_task(self._watch(on_left), name="simulator:watch")
                await work
                watcher.cancel()
        except* ClientLeft:
            pass  # `on_left` has recorded it, and there is nobody to tell

    async def _watch(self, on_left: Callable[[], None]) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        # Here and not where the cancelled work ends, which is some turns of the loop later: the same
        # client's next call may arrive in between, and would be counted as running beside this one.
        on_left()
        raise ClientLeft

    async def open(self, content_type: bytes, status: int = 200, headers: Sequence[Header] = ()) -> None:
        """Send status and headers; `write` and `close` follow."""
        all_headers = [(b"content-type", content_type), (b"cache-control", b"no-cache"), _SIMULATED, *headers]
        await self._send({"type": "http.response.start", "status": status, "headers": all_headers})

    async def write(self, data: bytes) -> None:
        """Send a piece of the body; waits while the client reads too slowly."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def close(self, data: bytes = b"") -> None:
        """End the body properly. A reply left without it has its connection cut by the server."""
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def reply(self, value: object, status: int = 200, headers: Sequence[Header] = ()) -> None:
        """Send a whole JSON reply."""
        data = msgspec.json.encode(value)
        length = (b"content-length", str(len(data)).encode())
        await self.open(JSON, status, [length, *headers])
        await self.close(data)

    async def refuse(self, refusal: Refusal) -> None:
        await self.reply(refusal.body(), refusal.status, refusal.headers())
