"""`refrain serve --workers N`: a parent that owns the socket, Redis and the model, and N workers that serve.

A worker that dies is started again, and what it held is given back at once: nobody waits for its leases.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

from app.framing import framed
from app.gateway import Addresses
from app.roster import Line, Roster
from app.simulate import paths
from cache.errors import StoreError
from cache.flights import SharedFlights
from cache.leases import reclaim
from cache.link import Link
from cache.processes import bury, new_proc
from config.settings import Settings
from runtime.child import ChildProcess
from runtime.supervisor import Supervisor

log = logging.getLogger("refrain.workers")

#: For a worker to accept connections.
START_S = 30.0
#: Until our copy of a worker's end of its line is closed.
HANDED_S = 5.0
#: Beyond the drain: until a worker that hangs is killed.
EXTRA_S = 8.0
#: For what a worker held that was killed at the end to be given back.
BURY_S = 1.0
#: After a second Ctrl-C: until a worker that has not ended by then is killed.
FORCED_S = 2.0


class Workers:
    """`addresses` are the instance's; `flags` those of the command line, so that workers read the same."""

    def __init__(
        self,
        settings: Settings,
        flags: Mapping[str, str],
        addresses: Addresses,
        sock: socket.socket,
        supervisor: Supervisor,
    ) -> None:
        self._settings = settings
        self._flags = dict(flags)
        self._addresses = addresses
        self._sock = sock
        self._supervisor = supervisor
        self._roster = Roster(supervisor)
        self._link = Link(addresses.redis, "")
        self._over = asyncio.Event()
        self._interrupted = False
        self._procs: dict[int, str] = {}
        self._children = {number: self._child(number) for number in range(1, settings.web_concurrency + 1)}

    async def start(self, *, fresh: bool) -> bool:
        """Whether all accept connections. `fresh`: Redis is our own, and has just been started."""
        self._link.start(self._supervisor)
        self._supervisor.own("history", self._roster.remember())
        if fresh:
            await self._fence()
        async with asyncio.TaskGroup() as group:
            starts = [
                group.create_task(child.start(self._supervisor, START_S)) for child in self._children.values()
            ]
        return all(start.result() for start in starts)

    async def _fence(self) -> None:
        """In a new Redis nobody can have led anything, so nobody need be waited for."""
        flights = SharedFlights(self._link, lease_s=self._settings.lease_s, guard_s=0.0)
        try:
            async with asyncio.timeout(2.0):
                await self._link.until_up()
            await flights.fence()
        except (StoreError, TimeoutError):
            return  # each worker will find none, and wait

    async def until_over(self) -> None:
        """Until told to stop, and all have ended."""
        await self._over.wait()
        grace = self._settings.drain_timeout_s + EXTRA_S
        for child in self._children.values():
            child.retire()
        async with asyncio.TaskGroup() as group:
            for child in self._children.values():
                group.create_task(child.stop(grace))

    def signalled(self, number: int) -> None:
        """SIGTERM and the first Ctrl-C drain; a second Ctrl-C ends at once."""
        if number == signal.SIGINT:
            # Each by itself: two that are pending at once are one.
            self._signal_all(signal.SIGINT)
            if self._interrupted:
                asyncio.get_running_loop().call_later(FORCED_S, self._signal_all, signal.SIGKILL)
            self._interrupted = True
        self._over.set()

    def _signal_all(self, number: int) -> None:
        for child in self._children.values():
            child.signal(number)

    async def close(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(BURY_S):
                await self._supervisor.until_none("workers:bury")
        await self._link.close()

    # -- one worker ---------------------------------------------------------------------------
    def _child(self, number: int) -> ChildProcess:
        fd = self._sock.fileno()
        return ChildProcess(
            f"worker-{number}",
            [sys.executable, "-m", "app.cli", "worker", "--fd", str(fd)],
            {**os.environ, "PYTHONPATH": paths()},
            lambda: self._ready(number),
            pass_fds=(fd,),
            on_end=lambda status: self._ended(number, status),
            before=lambda: self._prepare(number),
            talks=True,
        )

    def _prepare(self, number: int) -> tuple[Sequence[str], Sequence[int]]:
        """A line to it, with what it has to know as the first message. Nothing secret in its arguments."""
        ours, theirs = socket.socketpair()
        proc = self._procs[number] = new_proc()
        handover = {
            "flags": self._flags,
            "proc": proc,
            "worker": number,
            "workers": self._settings.web_concurrency,
            "redis": self._addresses.redis.url,
            "upstream": self._addresses.upstream_url,
            "simulated": self._addresses.simulated,
        }
        ours.sendall(framed(handover))
        self._supervisor.spawn(f"roster:open:{number}", self._open(number, proc, ours))
        # The child has it as soon as it is started, which is at once.
        asyncio.get_running_loop().call_later(HANDED_S, theirs.close)
        return ["--control", str(theirs.fileno())], [theirs.fileno()]

    async def _open(self, number: int, proc: str, sock: socket.socket) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=sock)
        if self._procs.get(number) != proc:
            writer.close()  # it has died already
            return
        self._roster.enter(Line(number, writer), reader)

    async def _ready(self, number: int) -> bool:
        line = self._roster.line(number)
        return line is not None and line.ready.is_set()

    def _ended(self, number: int, status: int | None) -> None:
        self._roster.leave(number)
        proc = self._procs.pop(number, None)
        if proc is None or (self._over.is_set() and status == 0):
            return  # it never began, or has drained
        if not self._over.is_set():
            self._roster.restarts += 1
        log.warning("a worker ended", extra={"worker": number, "status": status})
        self._supervisor.spawn("workers:bury", self._bury(proc))

    async def _bury(self, proc: str) -> None:
        s = self._settings
        try:
            await bury(self._link, proc, s.lease_s)
            for pool, capacity in (
                ("llm_streams", s.max_concurrent_llm_streams),
                ("llm_calls", s.max_concurrent_llm_calls),
            ):
                await reclaim(self._link, pool, capacity, s.lease_s, proc)
        except StoreError:
            return  # its leases lapse
