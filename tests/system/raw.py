"""HTTP by hand: bytes on a socket, for what no client library would send and for leaving rudely."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

#: FIN: says goodbye and waits for the other side to do so. RST: is just gone.
Leave = Literal["fin", "rst"]

#: Generous: the machine is shared. Whatever is awaited under it comes at once, or never.
PATIENCE_S = 20.0


def post(path: str, body: bytes | Mapping[str, Any], *headers: str) -> bytes:
    """A POST, complete; `headers` are whole lines."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return (
        head("POST", path, "content-type: application/json", f"content-length: {len(data)}", *headers) + data
    )


def get(path: str, *headers: str) -> bytes:
    return head("GET", path, *headers)


def head(method: str, path: str, *headers: str) -> bytes:
    """A request's head, the empty line included."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "host: gateway", *headers, "", ""]).encode("latin-1")


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """One connection. `got` is all that was read from it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.got = b""

    async def send(self, *parts: bytes) -> None:
        for part in parts:
            self._writer.write(part)
            await self._writer.drain()

    async def until(self, wanted: bytes) -> None:
        """Read on until `wanted` has come."""
        async with asyncio.timeout(PATIENCE_S):
            while wanted not in self.got:
                piece = await self._reader.read(65_536)
                assert piece, f"closed before {wanted!r} came: {self.got[-300:]!r}"
                self.got += piece

    async def until_closed(self) -> bytes:
        """Read to the end, however it comes; all that was read."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                while piece := await self._reader.read(65_536):
                    self.got += piece
            except ConnectionError:
                pass
        return self.got

    async def answer(self) -> Answer:
        """Read one reply with a content-length; what follows it stays in `got`."""
        await self.until(b"\r\n\r\n")
        start, _, rest = self.got.partition(b"\r\n\r\n")
        status, *lines = start.decode("latin-1").split("\r\n")
        pairs = [line.split(": ", 1) for line in lines]
        headers = {name.lower(): value for name, value in pairs}
        size = int(headers.get("content-length", 0))
        async with asyncio.timeout(PATIENCE_S):
            while len(rest) < size:
                piece = await self._reader.read(65_536)
                assert piece, "closed in the middle of a body"
                rest += piece
        self.got = rest[size:]
        return Answer(int(status.split()[1]), headers, rest[:size])

    async def leave(self, how: Leave) -> None:
        """FIN returns when the other side has closed too; RST at once."""
        if how == "fin":
            self._writer.write_eof()
            await self.until_closed()
        self.reset()

    def reset(self) -> None:
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


@asynccontextmanager
async def wire(url: str) -> AsyncIterator[Wire]:
    """A connection to `url`'s host, gone without a word at the end of the block."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    connection = Wire(reader, writer)
    try:
        yield connection
    finally:
        if not writer.transport.is_closing():
            connection.reset()


async def exchange(url: str, request: bytes) -> Answer:
    """One request on a connection of its own."""
    async with wire(url) as connection:
        await connection.send(request)
        return await connection.answer()
