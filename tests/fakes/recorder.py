"""An ASGI app that records what it is given, behind the product's own server configuration."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn

from app.server import configuration
from tests.fakes.eventually import eventually


class Recorder:
    """`/echo` reads and tells, `/refuse` answers unread, `/hold` and `/stream` wait for the end.

    `seen` are the paths of all requests begun, `left` of those that ended without an answer.
    """

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.left: list[str] = []
        self.go = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                kind = (await receive())["type"]
                await send({"type": f"{kind}.complete"})
                if kind == "lifespan.shutdown":
                    return
        path = scope["path"]
        self.seen.append(path)
        if path == "/refuse":
            await _reply(send, 415, b"{}")
        elif path == "/later":
            await self.go.wait()
            await _reply(send, 200, b"later")
        elif path == "/flood":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await self._flood(scope, send)
        elif path in ("/hold", "/stream"):
            await self._wait(path, receive, send)
        else:
            await self._echo(scope, receive, send)

    async def _wait(self, path: str, receive: Any, send: Any) -> None:
        if path == "/stream":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        self.left.append(path)

    async def _echo(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left.append(scope["path"])
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        names = [name.decode() for name, _ in scope["headers"]]
        await _reply(send, 200, json.dumps({"body": body.decode(), "headers": names}).encode())

    async def _flood(self, scope: Any, send: Any) -> None:
        """Writes until it is stopped; then drops the connection as a cut reader's is dropped."""
        try:
            async with asyncio.timeout(0.2):
                while True:
                    await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
        except TimeoutError:
            scope["extensions"]["refrain.connection"]["abort"]()
            self.left.append("/flood")


async def _reply(send: Any, status: int, body: bytes) -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class QuietServer(uvicorn.Server):
    """Signals are the test runner's."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Recorder, str, uvicorn.Server]]:
    """The product's own server configuration around a recorder."""
    recorder = Recorder()
    server = QuietServer(configuration(recorder))
    sock = socket.create_server(("127.0.0.1", 0))
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve(sockets=[sock]))
        await eventually(lambda: server.started)
        try:
            yield recorder, f"http://127.0.0.1:{sock.getsockname()[1]}", server
        finally:
            server.should_exit = True
