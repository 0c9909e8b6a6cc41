"""A client's end of one ASGI exchange, played by hand: what it sends, when it leaves, how slowly it reads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from starlette.types import ASGIApp, Message

from tests.system.sse import Event, Reader

TERMINAL = ("done", "failed", "cancelled")


class Peer:
    """`await peer.call(app)` runs one request; the reply is in `status`, `headers`, `body` and `pieces`.

    An `unfinished` body never comes to its end. While `reading` is clear, the server's sends block, as they
    do for a client with full buffers. As with uvicorn, a send after the client has left is silent, `receive`
    blocks until it leaves, and `refrain.connection` drops the connection.
    """

    def __init__(
        self,
        method: str = "GET",
        target: str = "/",
        *,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        body: bytes | Sequence[bytes] = b"",
        unfinished: bool = False,
    ) -> None:
        path, _, query = target.partition("?")
        lines = headers.items() if isinstance(headers, Mapping) else headers
        self.scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in lines],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            "path_params": {},
            "extensions": {"refrain.connection": {"abort": self._abort, "unsent": lambda: self.unsent}},
        }
        self._parts = [body] if isinstance(body, bytes) else list(body)
        self._unfinished = unfinished
        self._left = asyncio.Event()
        self.reading = asyncio.Event()
        self.reading.set()
        self.unsent: int = 1  # bytes that it has still to take, as the server sees it
        self.aborted = False
        self.messages: list[Message] = []
        self.reader = Reader()
        self.events: list[Event] = []
        self._arrival = asyncio.Event()

    async def call(self, app: ASGIApp) -> Self:
        await app(self.scope, self.receive, self.send)
        return self

    async def until(self, state: Callable[[], object]) -> None:
        """Wait for a state of the reply, looked at whenever something of it has come."""
        while not state():
            self._arrival.clear()
            async with asyncio.timeout(30):  # a hang ends here, with a traceback
                await self._arrival.wait()

    def leave(self) -> None:
        """Close the connection."""
        self._left.set()
        self.reading.set()

    # -- the server's side --------------------------------------------------------------------
    async def receive(self) -> Message:
        if self._parts and not self._left.is_set():
            part = self._parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(self._parts) or self._unfinished}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        await self.reading.wait()
        if self._left.is_set():
            return
        assert not self.complete, f"after its end came {message!r}"
        self.messages.append(message)
        if message["type"] == "http.response.body" and self.is_stream:
            self.events += self.reader.feed(message.get("body", b""))
        self._arrival.set()

    def _abort(self) -> None:
        self.aborted = True
        self.leave()

    # -- the reply ----------------------------------------------------------------------------
    @property
    def started(self) -> bool:
        return bool(self.messages)

    @property
    def complete(self) -> bool:
        """Has the reply come to its proper end?"""
        return len(self.messages) > 1 and not self.messages[-1].get("more_body", False)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def header_lines(self) -> list[tuple[str, str]]:
        return [(name.decode(), value.decode()) for name, value in self.messages[0]["headers"]]

    @property
    def headers(self) -> dict[str, str]:
        """By name; no name may come twice."""
        lines = self.header_lines
        assert len({name for name, _ in lines}) == len(lines), lines
        return dict(lines)

    @property
    def is_stream(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")

    @property
    def pieces(self) -> list[bytes]:
        """One entry per write."""
        return [message.get("body", b"") for message in self.messages[1:]]

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]

    # -- a native stream ----------------------------------------------------------------------
    @property
    def text(self) -> str:
        """As a client shows it: `reset` voids what came before."""
        text = ""
        for event in self.events:
            if event.name == "reset":
                text = ""
            elif event.name == "delta":
                text += event.json["text"]
        return text

    @property
    def shown(self) -> list[tuple[str, str, int | None]]:
        """The `status` events: status, stage, queue position."""
        return [
            (event.json["status"], event.json["stage"], event.json["queue_position"])
            for event in self.events
            if event.name == "status"
        ]

    @property
    def end(self) -> Event:
        """The one terminal event; it is the last, and the body is over."""
        assert self.complete
        ends = [event for event in self.events if event.name in TERMINAL]
        assert len(ends) == 1, self.events
        assert self.events[-1] is ends[0]
        return ends[0]
