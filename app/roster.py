"""The parent's end of the lines to its workers: who they are, what they show, what the departed counted."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any, Final

import msgspec

from app.framing import framed, read
from app.history import EVERY_S, History
from app.readings import Instance, Reading, bury, packed, unpacked
from runtime.supervisor import Supervisor

#: A worker that has not answered by then is shown as it was.
PATIENCE_S: Final = 0.25


class Line:
    """One life of one worker. `last` is its last reading, `None` before the first."""

    def __init__(self, worker: int, writer: asyncio.StreamWriter) -> None:
        self.worker = worker
        self.writer = writer
        self.ready = asyncio.Event()
        self.last: Reading | None = None
        self.answered = 0

    def send(self, message: dict[str, Any]) -> None:
        if not self.writer.is_closing():
            self.writer.write(framed(message))


class Roster:
    """State: the lines by worker number, the sum of the departed, and the questions under way."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._lines: dict[int, Line] = {}
        self._departed: Reading | None = None
        self._question = 0
        self._changed = asyncio.Event()
        self.restarts = 0
        self._history = History()

    def enter(self, line: Line, reader: asyncio.StreamReader) -> None:
        """A worker has been started."""
        self._lines[line.worker] = line
        self._supervisor.spawn(f"roster:{line.worker}", self._listen(line, reader))

    def leave(self, worker: int) -> None:
        """It has ended. What it had counted is kept."""
        line = self._lines.pop(worker, None)
        if line is None:
            return
        line.writer.close()
        if line.last is not None:
            self._departed = bury(self._departed, line.last)
        self._changed.set()

    async def remember(self) -> None:
        """A loop that the Supervisor owns. Readings come unasked as often as samples are taken."""
        while True:
            readings = [line.last for line in self._lines.values() if line.last is not None]
            self._history.add(Instance(readings, self._departed), time.time())
            await asyncio.sleep(EVERY_S)

    def line(self, worker: int) -> Line | None:
        return self._lines.get(worker)

    async def _listen(self, line: Line, reader: asyncio.StreamReader) -> None:
        while True:
            try:
                message = await read(reader)
                self._heard(line, message)
            except (EOFError, msgspec.MsgspecError, KeyError):
                return  # its process is ending, and whoever keeps it says so

    def _heard(self, line: Line, message: dict[str, Any]) -> None:
        if message["t"] == "ready":
            line.ready.set()
        elif message["t"] == "reading":
            line.last = unpacked(message["r"])
            line.answered = max(line.answered, message.get("id", 0))
            self._changed.set()
        elif message["t"] == "ask":
            self._supervisor.spawn(f"roster:ask:{line.worker}", self._answer(line, message["n"]))

        elif message["t"] == "recall":
            answer = {"t": "history", "n": message["n"], "history": self._history.shown(message["worker"])}
            line.send(answer)

    async def _answer(self, asker: Line, number: int) -> None:
        self._question += 1
        question = self._question
        for line in self._lines.values():
            line.send({"t": "read", "id": question})
        await self._until_answered(question)
        readings = []
        for line in sorted(self._lines.values(), key=lambda line: line.worker):
            if line.last is not None:
                stale = line.answered < question
                readings.append(packed(replace(line.last, stale=True) if stale else line.last))
        departed = packed(self._departed) if self._departed else None
        answer = {"t": "instance", "n": number, "readings": readings, "departed": departed}
        asker.send({**answer, "restarts": self.restarts})

    async def _until_answered(self, question: int) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                while any(line.answered < question for line in self._lines.values()):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return
