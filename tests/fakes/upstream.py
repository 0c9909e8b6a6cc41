"""A scripted HTTP server on loopback: what it answers, byte for byte, is said in advance.

It runs on bare protocols, without a task of its own: a script goes on when a request has arrived or
a gate opens, and stops where the test said. Nothing in it waits for time to pass.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self, cast

import msgspec


class Gate:
    """A point in a script where the server waits until the test calls `open`."""

    def __init__(self) -> None:
        self._opened = False
        self._waiting: list[Callable[[], None]] = []

    def open(self) -> None:
        self._opened = True
        waiting, self._waiting = self._waiting, []
        for resume in waiting:
            resume()

    def passed_or_calls(self, resume: Callable[[], None]) -> bool:
        """True if it is open; else `resume` is called once it is."""
        if not self._opened:
            self._waiting.append(resume)
        return self._opened


class Step:
    """What a script may hold besides bytes and gates."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


RESET = Step("RESET")
"""Cut the connection with a TCP reset."""
CLOSE = Step("CLOSE")
"""Close it in an orderly way, after what was written."""
HANG = Step("HANG")
"""Say nothing more and keep the connection open."""

Script = Sequence[bytes | Gate | Step]


def head(status: str = "200 OK", content_type: str = "text/event-stream", **headers: str) -> bytes:
    """A response's head; keyword `Retry_After` becomes the header `Retry-After`."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {content_type}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


STREAM_HEAD = head(Transfer_Encoding="chunked")
END = b"0\r\n\r\n"


def piece(data: bytes) -> bytes:
    """`data` as one piece of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(payload: bytes | dict[str, object]) -> bytes:
    """One server-sent event as one piece of a chunked body."""
    raw = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
    return piece(b"data: " + raw + b"\n\n")


def delta(text: str | None = None, *, finish: str | None = None, index: int = 0) -> dict[str, object]:
    """A chunk with one choice."""
    words = {} if text is None else {"content": text}
    return {"id": "c1", "choices": [{"index": index, "delta": words, "finish_reason": finish}]}


def reply(status: str, body: bytes, content_type: str = "application/json", **headers: str) -> bytes:
    """A whole response of known length."""
    return head(status, content_type, Content_Length=str(len(body)), **headers) + body


def answer(*texts: str) -> list[bytes]:
    """The script of a complete streamed answer."""
    events = [event(delta(text)) for text in texts]
    return [STREAM_HEAD, *events, event(delta(finish="stop")), event(b"[DONE]") + END]


@dataclass
class Request:
    """What a client sent."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class ScriptedUpstream:
    """`async with ScriptedUpstream([script, …]) as upstream`: the n-th request gets the n-th script.

    The last script serves all further requests; `greeting` is sent before any request has come.
    `connections` were accepted in all, `open` are open now, `aborted` were given up by the client
    before their script had ended.
    """

    scripts: Sequence[Script]
    reading: bool = True
    greeting: bytes = b""
    connections: int = 0
    open: int = 0
    aborted: int = 0
    requests: list[Request] = field(default_factory=list)
    _waiters: list[asyncio.Future[None]] = field(default_factory=list)
    _live: set[_Connection] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        for connection in tuple(self._live):
            connection.drop()
        await self.until(lambda: self.open == 0)

    @property
    def port(self) -> int:
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a state, looked at whenever something happens on a connection."""
        while not condition():
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            async with asyncio.timeout(30):  # a hang ends here, with a traceback
                await waiter

    def resume_reading(self) -> None:
        """Begin to read where `reading=False` had stopped it."""
        for connection in tuple(self._live):
            connection.resume_reading()

    def script(self) -> Script:
        return self.scripts[min(len(self.requests), len(self.scripts)) - 1]

    def changed(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class _Connection(asyncio.Protocol):
    """One connection: reads requests and plays a script for each."""

    def __init__(self, upstream: ScriptedUpstream) -> None:
        self._upstream = upstream
        self._received = b""
        self._steps: deque[bytes | Gate | Step] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._upstream.connections += 1
        self._upstream.open += 1
        self._upstream._live.add(self)
        if self._upstream.greeting:
            transport.write(self._upstream.greeting)
        if not self._upstream.reading:
            transport.pause_reading()
        self._upstream.changed()

    def data_received(self, data: bytes) -> None:
        self._received += data
        top, found, rest = self._received.partition(b"\r\n\r\n")
        request = _request(top, rest) if found else None
        if request is not None:
            self._received = rest[len(request.body) :]
            self._upstream.requests.append(request)
            self._steps.extend(self._upstream.script())
            self._upstream.changed()
            self._play()

    def connection_lost(self, exc: Exception | None) -> None:
        self._upstream.open -= 1
        self._upstream._live.discard(self)
        if self._steps:
            self._upstream.aborted += 1
        self._upstream.changed()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def drop(self) -> None:
        self._steps.clear()
        self._transport.abort()

    def _play(self) -> None:
        while self._steps:
            step = self._steps[0]
            if step is HANG or (isinstance(step, Gate) and not step.passed_or_calls(self._play)):
                return
            self._steps.popleft()
            if isinstance(step, bytes):
                self._transport.write(step)
            elif step is CLOSE:
                self._transport.close()
            elif step is RESET:
                self._reset()

    def _reset(self) -> None:
        raw: socket.socket = self._transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


def _request(top: bytes, rest: bytes) -> Request | None:
    """The request, or None as long as its body is not there in full."""
    first, *lines = top.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    length = int(headers.get("content-length", "0"))
    return Request(method, path, headers, rest[:length]) if len(rest) >= length else None
