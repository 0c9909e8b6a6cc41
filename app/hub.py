"""How a worker learns what its siblings show: it asks the parent, which asks all and adds the departed."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from app.framing import framed, read
from app.history import EVERY_S, History
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

    async def history(self, worker: int | None) -> dict[str, Any]:
        """The last minutes of one worker, or of the instance."""


class Alone:
    """An instance of one process."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._history = History()

    async def gather(self) -> Instance:
        return Instance([reading(self._gateway)])

    async def history(self, worker: int | None) -> dict[str, Any]:
        return self._history.shown(worker)

    async def remember(self) -> None:
        """A loop that the Supervisor owns."""
        while True:
            self._history.add(await self.gather(), time.time())
            await asyncio.sleep(EVERY_S)


class WorkerHub:
    """The worker's end of the line to its parent. `start` before anything is asked."""

    def __init__(self, sock: socket.socket, gateway: Gateway) -> None:
        self._sock = sock
        self._gateway = gateway
        self._writer: asyncio.StreamWriter | None = None
        self._question = 0
        self._asked: dict[int, asyncio.Future[Instance]] = {}
        self._recalling: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._heard: Instance | None = None

    async def start(self, supervisor: Supervisor) -> None:
        reader, self._writer = await asyncio.open_unix_connection(sock=self._sock)
        supervisor.own("hub:read", self._read(reader))
        supervisor.own("hub:report", self._report())

    def ready(self) -> None:
        """Connections are accepted."""
        self._send({"t": "ready"})

    async def gather(self) -> Instance:
        asked: asyncio.Future[Instance] = asyncio.get_running_loop().create_future()
        self._question += 1
        question = self._question
        self._asked[question] = asked
        self._send({"t": "ask", "n": question})
        try:
            async with asyncio.timeout(ASK_S):
                return await asked
        except TimeoutError:
            return self._last_heard()
        finally:
            self._asked.pop(question, None)

    async def history(self, worker: int | None) -> dict[str, Any]:
        """Empty if the parent is slow: charts can do without."""
        recalled: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._question += 1
        question = self._question
        self._recalling[question] = recalled
        self._send({"t": "recall", "n": question, "worker": worker})
        try:
            async with asyncio.timeout(ASK_S):
                return await recalled
        except TimeoutError:
            return History().shown()
        finally:
            del self._recalling[question]

    def _last_heard(self) -> Instance:
        """The parent is slow: what it last said, with ourselves as we are now. Counters must not go back."""
        now = self._now()
        if self._heard is None:
            return Instance([now])
        others = [replace(one, stale=True) for one in self._heard.readings if one.worker != now.worker]
        return replace(self._heard, readings=sorted([now, *others], key=lambda one: one.worker))

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
            elif message["t"] == "history":
                future = self._recalling.get(message["n"])
                if future is not None and not future.done():
                    future.set_result(message["history"])

    def _answered(self, message: dict[str, Any]) -> None:
        readings = [unpacked(data) for data in message["readings"]]
        departed = unpacked(message["departed"]) if message["departed"] else None
        instance = Instance(readings or [self._now()], departed, message["restarts"])
        self._heard = instance
        # An answer to an earlier question was true before a later one was asked.
        for question, future in self._asked.items():
            if question <= message["n"] and not future.done():
                future.set_result(instance)

    def _now(self) -> Reading:
        return reading(self._gateway)

    def _send(self, message: dict[str, Any]) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(framed(message))
