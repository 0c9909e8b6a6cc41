"""How a worker learns what its siblings show: it asks the parent, which asks all and adds the departed."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any, Final, Protocol

from app.framing import framed, read
from app.readings import Instance, Reading, packed, reading, unpacked
from runtime.supervisor import Supervisor

if TYPE_CHECKING:
    from app.gateway import Gateway

#: A reading is sent unasked so often: what the parent has of a worker that dies.
REPORT_S: Final = 1.0
#: The parent gives its workers less than this.
ASK_S: Final = 1.0


class Hub(Protocol):
    async def gather(self) -> Instance:
        """Every process of this instance, as it is now."""


class Alone:
    """An instance of one process."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def gather(self) -> Instance:
        return Instance([reading(self._gateway)])


class WorkerHub:
    """The worker's end of the line to its parent. `start` before anything is asked."""

    def __init__(self, sock: socket.socket, gateway: Gateway) -> None:
        self._sock = sock
        self._gateway = gateway
        self._writer: asyncio.StreamWriter | None = None
        self._asked: list[asyncio.Future[Instance]] = []

    async def start(self, supervisor: Supervisor) -> None:
        reader, self._writer = await asyncio.open_unix_connection(sock=self._sock)
        supervisor.own("hub:read", self._read(reader))
        supervisor.own("hub:report", self._report())

    def ready(self) -> None:
        """Connections are accepted."""
        self._send({"t": "ready"})

    async def gather(self) -> Instance:
        asked: asyncio.Future[Instance] = asyncio.get_running_loop().create_future()
        self._asked.append(asked)
        self._send({"t": "ask"})
        try:
            async with asyncio.timeout(ASK_S):
                return await asked
        except TimeoutError:
            return Instance([self._now()])  # better the truth of one than nothing
        finally:
            if asked in self._asked:
                self._asked.remove(asked)

    async def _report(self) -> None:
        while True:
            self._send({"t": "reading", "r": packed(self._now())})
            await asyncio.sleep(REPORT_S)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while True:
            message = await read(reader)
            if message["t"] == "read":
                self._send({"t": "reading", "r": packed(self._now()), "id": message["id"]})
            elif message["t"] == "instance":
                self._answered(message)

    def _answered(self, message: dict[str, Any]) -> None:
        readings = [unpacked(data) for data in message["readings"]]
        departed = unpacked(message["departed"]) if message["departed"] else None
        instance = Instance(readings or [self._now()], departed, message["restarts"])
        asked, self._asked = self._asked, []
        for future in asked:
            if not future.done():
                future.set_result(instance)

    def _now(self) -> Reading:
        return reading(self._gateway)

    def _send(self, message: dict[str, Any]) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(framed(message))
