"""The simulated model as a process: `refrain sim` in the foreground, or a child of `refrain serve`."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Mapping

import uvicorn

from app.listening import listen
from runtime.child import ChildProcess
from runtime.supervisor import Supervisor
from upstream.simulator import Behaviour, create_simulator


def simulate(behaviour: Behaviour, sock: socket.socket) -> None:
    """Serve until a signal ends it."""
    config = uvicorn.Config(
        create_simulator(behaviour),
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=600,  # the gateway decides when a pooled connection is old
        timeout_graceful_shutdown=1,  # held and hanging calls would never end
        backlog=4096,
    )
    uvicorn.Server(config).run(sockets=[sock])


def inherited(fd: int) -> socket.socket:
    """The listening socket that our parent has opened for us."""
    return socket.socket(fileno=fd)


class SimulatorChild:
    """Its socket is ours, so that its address survives its respawns."""

    def __init__(self) -> None:
        self._sock = listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._sock.getsockname()[1]}/v1"
        fd = self._sock.fileno()
        self._child = ChildProcess(
            "simulator",
            [sys.executable, "-m", "app.cli", "sim", "--fd", str(fd)],
            _environment(),
            self._answers,
            pass_fds=(fd,),
        )

    async def start(self, supervisor: Supervisor) -> bool:
        return await self._child.start(supervisor, timeout_s=15.0)

    async def stop(self) -> None:
        await self._child.stop()
        self._sock.close()

    async def _answers(self) -> bool:
        """A connect would succeed before it runs: the socket is open. So it has to speak."""
        try:
            async with asyncio.timeout(1.0):
                reader, writer = await asyncio.open_connection(*self._sock.getsockname())
                try:
                    writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
                    return b" 200 " in await reader.readline()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False


def _environment() -> Mapping[str, str]:
    """What it needs of our environment; our secrets are not among it."""
    names = ("PATH", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")
    environment = {name: os.environ[name] for name in names if name in os.environ}
    return {**environment, "PYTHONPATH": paths()}


def paths() -> str:
    """Where a child finds what we have found, whatever its working directory."""
    return os.pathsep.join(path for path in sys.path if path)
