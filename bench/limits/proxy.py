"""Small gateways in raw ASGI and aiohttp: what relaying costs when nothing else is done.

`relay` passes each request on, byte for byte. `coalesce` makes one upstream call per distinct body, lets
any number of requests read its growing log, and keeps finished answers in a dict: Refrain's shape,
without its stages, limits, keys, records, store, metrics and failure handling.
"""

from __future__ import annotations

import asyncio
import hashlib
import os

import aiohttp
import yarl
from starlette.types import Receive, Scope, Send

from bench.limits.apps import JSON, SSE, lifespan, read_body

URL = yarl.URL(os.environ.get("BENCH_UPSTREAM", "http://127.0.0.1:9100") + "/v1/chat/completions")
HEADERS = {"content-type": "application/json"}


class Client:
    """One session, made in the loop that uses it."""

    session: aiohttp.ClientSession | None = None

    @classmethod
    def get(cls) -> aiohttp.ClientSession:
        if cls.session is None:
            cls.session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None, sock_read=60),
                auto_decompress=False,
            )
        return cls.session


async def answer(send: Send, status: int, body: bytes, *, stream: bool = False) -> None:
    headers = [*(SSE if stream else JSON), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def relay(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    body = await read_body(receive)
    async with Client.get().post(URL, data=body, headers=HEADERS) as response:
        if b'"stream":true' not in body:
            await answer(send, response.status, await response.read())
            return
        await send({"type": "http.response.start", "status": response.status, "headers": SSE})
        async for piece in response.content.iter_any():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


class Flight:
    """One upstream answer: a growing log that any number of requests read, each at its own pace."""

    def __init__(self) -> None:
        self.log: list[bytes] = []
        self.whole: bytes | None = None
        self.status = 200
        self._waiting: list[asyncio.Future[None]] = []

    async def fetch(self, body: bytes) -> None:
        async with Client.get().post(URL, data=body, headers=HEADERS) as response:
            self.status = response.status
            async for piece in response.content.iter_any():
                self.log.append(piece)
                self._wake()
        self.whole = b"".join(self.log)
        self._wake()

    async def wait(self) -> None:
        # One future each: a shared one would be cancelled for all with the first task cancelled.
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        await waiter

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)


_flights: dict[bytes, Flight] = {}
_tasks: set[asyncio.Task[None]] = set()


def _flight(body: bytes) -> Flight:
    key = hashlib.blake2b(body, digest_size=16).digest()
    flight = _flights.get(key)
    if flight is None:
        flight = _flights[key] = Flight()
        task = asyncio.get_running_loop().create_task(flight.fetch(body))
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)
    return flight


async def coalesce(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    body = await read_body(receive)
    flight = _flight(body)
    stream = b'"stream":true' in body
    while flight.whole is None and not stream:
        await flight.wait()
    if flight.whole is not None:
        await answer(send, flight.status, flight.whole, stream=stream)
        return
    await send({"type": "http.response.start", "status": flight.status, "headers": SSE})
    at = 0
    while at < len(flight.log) or flight.whole is None:
        if at == len(flight.log):
            await flight.wait()
            continue
        pieces, at = flight.log[at:], len(flight.log)
        await send({"type": "http.response.body", "body": b"".join(pieces), "more_body": True})
    await send({"type": "http.response.body", "body": b""})
