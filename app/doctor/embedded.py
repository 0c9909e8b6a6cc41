"""The embedded Redis, which a gateway without `REDIS_URL` starts: its server, its folder, who runs one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from app.doctor.finding import LOOK_S, Finding, failed, ok, warning
from cache.embedded import ServerBinary, find_server
from cache.errors import StoreError
from cache.folders import FolderError, InstanceFolder, default_root, running_sockets
from cache.redis import RedisConnection
from cache.targets import RedisTarget


async def examine(
    port: int, root: Path | None = None, find: Callable[[], ServerBinary | None] = find_server
) -> list[Finding]:
    root = default_root() if root is None else root
    findings = [binary(await asyncio.to_thread(find)), folder(root)]
    findings.append(await instance(root, port))
    return findings


def binary(found: ServerBinary | None) -> Finding:
    if found is None:
        says = "REDIS_URL is not set, and there is no redis-server of 6.2 or later: nothing will be cached."
        return failed("embedded.server", says, "Install one, or set REDIS_URL.")
    version = ".".join(map(str, found.version))
    return ok("embedded.server", f"REDIS_URL is not set: {found.path} {version} is started, in memory only.")


def folder(root: Path) -> Finding:
    """Claims a folder as a gateway would, and gives it back."""
    try:
        InstanceFolder.claim(root, f"doctor-{os.getpid()}").release()
    except (FolderError, OSError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        do = "Set XDG_RUNTIME_DIR to a folder that this user may write to; in a container, a tmpfs at /tmp."
        return failed("embedded.folder", f"Its socket can have no folder in {root}: {why}.", do)
    return ok("embedded.folder", f"Its socket can have a folder in {root}.")


async def instance(root: Path, port: int) -> Finding:
    try:
        sockets = running_sockets(root, str(port))
    except (FolderError, OSError):
        sockets = []  # embedded.folder has said so
    if not sockets:
        return ok("embedded.instance", f"No instance on port {port} runs one for this user now.")
    connection = RedisConnection(RedisTarget.unix(sockets[0]))
    try:
        await connection.use("ping", LOOK_S, lambda client: client.execute_command("PING"))
    except StoreError:
        says = f"The instance on port {port} has one that does not answer: it serves without a cache."
        return warning("embedded.instance", says, "Restart the instance.")
    finally:
        await connection.close()
    return ok("embedded.instance", f"The instance on port {port} runs one, and it answers.")
