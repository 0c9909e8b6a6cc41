"""Servers as child processes, each pinned to a core: what is measured, and what it is measured beside."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cache.embedded import find_server

BENCH: Final = Path(__file__).resolve().parents[1]
ROOT: Final = BENCH.parent
LOAD_CORE: Final = "0"
SERVER_CORE: Final = "1"
#: Fixed, so that two runs at once, which would measure each other, refuse to start.
UPSTREAM_PORT: Final = 9100
UPSTREAM: Final = f"http://127.0.0.1:{UPSTREAM_PORT}"
CHAT: Final = "/v1/chat/completions"
START_S: Final = 30.0
STOP_S: Final = 10.0

#: Wide enough that no scenario meets a limit: what is measured is the cost, not the refusal.
LIMITS: Final = {
    "REFRAIN_MAX_CONCURRENT_LLM_STREAMS": "600",
    "REFRAIN_MAX_CONCURRENT_LEADERS": "600",
    "REFRAIN_MAX_CONCURRENT_FOLLOWERS": "2000",
    "REFRAIN_QUEUE_SIZE": "4000",
    "REFRAIN_MAX_PENDING": "2000",
}


class DidNotStart(Exception):
    """Its message says which server, and ends with what that server wrote."""


@dataclass
class Server:
    """A command that listens on `port` (0: on nothing that could be asked) once it is ready."""

    name: str
    command: list[str]
    port: int
    core: str = SERVER_CORE
    env: dict[str, str] = field(default_factory=dict)

    @contextlib.asynccontextmanager
    async def running(self, scratch: Path) -> AsyncIterator[int]:
        """Run it in a process group of its own; yields its pid."""
        if self.port and _answers(self.port):
            raise DidNotStart(f"{self.name}: something listens on port {self.port} already")
        log = scratch / f"{self.name}.log"
        with log.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                *("taskset", "-c", self.core, *self.command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=ROOT,
                env=_environment() | self.env,
                start_new_session=True,
            )
        try:
            await self._ready(process, log)
            yield process.pid
        finally:
            await _stop(process)

    async def _ready(self, process: asyncio.subprocess.Process, log: Path) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + START_S
        while process.returncode is None and loop.time() < until:
            await asyncio.sleep(0.1)
            if not self.port or _answers(self.port):
                return
        raise DidNotStart(f"{self.name} did not start:\n{_tail(log)}")


def _environment() -> dict[str, str]:
    """Ours without the settings of a gateway that somebody may have in their shell."""
    foreign = ("REFRAIN_", "OPENAI_", "REDIS_", "PORT", "WEB_CONCURRENCY")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


async def _stop(process: asyncio.subprocess.Process) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await process.wait()
                return


# -- which there are ------------------------------------------------------------------------
def upstream() -> Server:
    command = [str(BENCH / "bin" / "upstream"), "-addr", f"127.0.0.1:{UPSTREAM_PORT}", "-life", "2h"]
    return Server("upstream", command, UPSTREAM_PORT, LOAD_CORE)


def redis(scratch: Path) -> Server:
    """The server that Refrain would embed, but on the other core, so that its CPU is not counted as ours."""
    binary = find_server()
    if binary is None:
        raise DidNotStart("there is no Redis server to run")
    options = {"port": "0", "unixsocket": str(_socket(scratch)), "dir": str(scratch), "save": ""}
    options |= {"maxmemory": "512mb", "maxmemory-policy": "allkeys-lru"}
    command = [str(binary.path), *(word for name, value in options.items() for word in (f"--{name}", value))]
    return Server("redis", command, 0, LOAD_CORE)


def refrain(name: str, port: int, scratch: Path, env: dict[str, str] | None = None) -> Server:
    settings = {"OPENAI_BASE_URL": f"{UPSTREAM}/v1", "REDIS_URL": f"unix://{_socket(scratch)}"}
    command = [sys.executable, "-m", "app.cli", "serve", "--port", str(port)]
    return Server(name, command, port, env=LIMITS | settings | (env or {}))


def uvicorn(name: str, app: str, port: int) -> Server:
    """An app of `bench/limits`, served with the same server, loop and parser as Refrain."""
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        f"bench.limits.{app}",
        "--port",
        str(port),
        "--backlog",
        "4096",
    ]
    command += ["--loop", "uvloop", "--http", "httptools", "--log-level", "critical", "--no-access-log"]
    return Server(name, command, port, env={"BENCH_UPSTREAM": UPSTREAM})


def nginx(scratch: Path) -> Server | None:
    """None where nginx is not installed: it is one more reference, not a necessity."""
    if (program := shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")) is None:
        return None
    folder = scratch / "nginx"
    folder.mkdir()
    folder.chmod(0o777)  # its worker runs as another user
    scratch.chmod(0o755)
    text = (BENCH / "peers" / "nginx.conf").read_text()
    text = text.replace("@RUN@", str(folder)).replace("@UPSTREAM@", f"127.0.0.1:{UPSTREAM_PORT}")
    (folder / "nginx.conf").write_text(text)
    command = [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
    return Server("nginx", command, 8101)


def _socket(scratch: Path) -> Path:
    return scratch / "redis.sock"
