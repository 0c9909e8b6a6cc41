"""A TCP proxy that fails on purpose, in a thread of its own so that the code under test cannot starve it.

with FaultProxy(port) as proxy:
    proxy.mode = Mode.BLACKHOLE      # from now on, for all connections
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from contextlib import suppress
from enum import StrEnum, auto
from types import TracebackType
from typing import Self

_CHUNK = 65_536
_TICK_S = 0.01


class Mode(StrEnum):
    PASS = auto()
    DELAY = auto()  #: `delay_s` each way
    BLACKHOLE = auto()  #: accepts, reads, and forgets
    REFUSE = auto()  #: resets what is open, and whoever comes
    FREEZE = auto()  #: reads nothing: the other side feels the back-pressure
    RATE = auto()  #: `rate` bytes a second each way
    DEAF = auto()  #: swallows what a Redis pushes to its subscribers, and nothing else


class FaultProxy:
    """In front of `port` on loopback. Its knobs may be turned at any moment, from any thread.

    `reset_after`: each connection is reset once so many bytes have come back on it. `half_close`: the
    client's end of sending is passed on, and the server's answer is not waited for.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self.mode = Mode.PASS
        self.delay_s = 0.0
        self.rate = 1000.0
        self.reset_after: int | None = None
        self.connections = 0
        self.bytes_up = self.bytes_down = 0
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(5.0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(5.0)

    def cut(self) -> None:
        """Reset every connection that is open now."""
        self._loop.call_soon_threadsafe(self._cut)

    def half_close(self) -> None:
        """End the sending side towards every client: they read an end, and may still write."""

        def end() -> None:
            for writer in list(self._open):
                with suppress(OSError, RuntimeError):
                    writer.write_eof()

        self._loop.call_soon_threadsafe(end)

    # -- its own thread -----------------------------------------------------------------------
    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._over = asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._over.wait()
        server.close()
        self._cut()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.mode is Mode.REFUSE:
            _reset(writer)
            return
        upstream: asyncio.StreamWriter | None = None
        try:
            answers, upstream = await asyncio.open_connection("127.0.0.1", self._target)
            self._open |= {writer, upstream}
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, upstream, up=True))
                group.create_task(self._pump(answers, writer, up=False))
        except (OSError, ExceptionGroup):
            pass
        finally:
            for end in (writer, upstream):
                if end is not None:
                    self._open.discard(end)
                    end.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
        passed = 0
        while True:
            while self.mode is Mode.FREEZE:
                await asyncio.sleep(_TICK_S)
            data = await reader.read(_CHUNK)
            if not data:
                raise OSError("the end")
            data = await self._suffer(data, up=up)
            passed += len(data)
            if up:
                self.bytes_up += len(data)
            else:
                self.bytes_down += len(data)
            if not up and self.reset_after is not None and passed > self.reset_after:
                _reset(writer)
                raise OSError("reset")
            if data:
                writer.write(data)
                await writer.drain()

    async def _suffer(self, data: bytes, *, up: bool) -> bytes:
        if self.mode is Mode.BLACKHOLE:
            return b""
        if self.mode is Mode.DEAF and not up:
            return _without_pushes(data)
        if self.mode is Mode.DELAY:
            await asyncio.sleep(self.delay_s)
        elif self.mode is Mode.RATE:
            await asyncio.sleep(len(data) / self.rate)
        return data

    def _cut(self) -> None:
        for writer in list(self._open):
            _reset(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _without_pushes(data: bytes) -> bytes:
    """A subscriber's connection carries nothing but pushes once it has subscribed: `*3 $7 message …`."""
    return b"" if data.startswith((b"*3\r\n$7\r\nmessage", b">3\r\n$7\r\nmessage")) else data
