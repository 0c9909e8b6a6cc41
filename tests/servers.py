"""Real Redis servers under test: one, a primary behind sentinels, or a cluster. Each ends with its block."""

from __future__ import annotations

import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from redis import Redis

from cache.embedded import find_server

START_S = 10.0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class RedisServer:
    """One process on a port of its own; `start` again after `kill`, with or without its data."""

    def __init__(self, folder: Path, port: int | None = None, *arguments: str) -> None:
        binary = find_server()
        assert binary is not None, "no redis-server or valkey-server was found"
        self.folder = folder
        self.port = port or free_port()
        self._command = [str(binary.path), *arguments, "--port", str(self.port), "--dir", str(folder)]
        self.popen: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def client(self) -> Redis:
        return Redis(port=self.port, decode_responses=True)

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.popen = subprocess.Popen(self._command, stdout=log, stderr=log, start_new_session=True)
        until(self._answers, "it answers")

    def signal(self, number: int) -> None:
        assert self.popen is not None
        self.popen.send_signal(number)

    def kill(self) -> None:
        if self.popen is not None:
            self.popen.send_signal(signal.SIGCONT)
            self.popen.kill()
            self.popen.wait(10)
            self.popen = None

    def restart_empty(self) -> None:
        """kill -9, and up again without a memory."""
        self.kill()
        for path in (*self.folder.glob("*.rdb"), *self.folder.glob("*.aof*")):
            path.unlink()
        self.start()

    def _answers(self) -> bool:
        try:
            with self.client as client:
                return bool(client.ping())
        except Exception:
            return False


def until(true: Any, what: str, within: float = START_S) -> None:
    """Wait until `true()` is."""
    end = time.monotonic() + within
    while not true():
        assert time.monotonic() < end, f"not within {within} s: {what}"
        _pause()


def _pause() -> None:
    signal.sigtimedwait([], 0.02)


@contextmanager
def standalone(*arguments: str) -> Iterator[RedisServer]:
    """One server, in memory only."""
    with tempfile.TemporaryDirectory(prefix="rf-") as folder:
        server = RedisServer(Path(folder), None, "--save", "", "--appendonly", "no", *arguments)
        try:
            yield server
        finally:
            server.kill()


@contextmanager
def sentinels() -> Iterator[tuple[str, RedisServer, RedisServer]]:
    """A primary, a replica and three sentinels: the URL, the primary, the replica."""
    with ExitStack() as stack:
        primary = stack.enter_context(standalone())
        replica = stack.enter_context(standalone("--replicaof", f"127.0.0.1 {primary.port}"))
        until(lambda: replica.client.info("replication")["master_link_status"] == "up", "the replica follows")
        ports = []
        for _ in range(3):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rf-")))
            config = folder / "sentinel.conf"
            config.write_text(
                f"sentinel monitor main 127.0.0.1 {primary.port} 2\n"
                "sentinel down-after-milliseconds main 500\n"
                "sentinel failover-timeout main 2000\n"
            )
            port = free_port()
            server = _sentinel(folder, config, port)
            stack.callback(server.kill)
            ports.append(port)
        for port in ports:
            until(lambda port=port: _peers(port) == 2, "the sentinels know each other", 15.0)
        yield (
            "redis+sentinel://" + ",".join(f"127.0.0.1:{port}" for port in ports) + "/main",
            primary,
            replica,
        )


def _sentinel(folder: Path, config: Path, port: int) -> RedisServer:
    server = RedisServer.__new__(RedisServer)
    binary = find_server()
    assert binary is not None
    server.folder, server.port = folder, port
    server._command = [str(binary.path), str(config), "--sentinel", "--port", str(port)]
    server.start()
    return server


def _peers(port: int) -> int:
    with Redis(port=port, decode_responses=True) as client:
        return int(client.sentinel_master("main")["num-other-sentinels"])


@contextmanager
def cluster() -> Iterator[tuple[str, list[RedisServer]]]:
    """Three primaries, then their three replicas: the URL and the six servers."""
    with ExitStack() as stack:
        # Of its own: the usual one, port + 10000, may be none.
        buses = [str(free_port()) for _ in range(6)]
        arguments = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port")
        nodes = [stack.enter_context(standalone(*arguments, bus)) for bus in buses]
        clients = [stack.enter_context(node.client) for node in nodes]
        for node, bus in zip(nodes[1:], buses[1:], strict=True):
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        until(lambda: all(int(c.cluster("INFO")["cluster_known_nodes"]) == 6 for c in clients), "they met")
        for index in range(3):
            first, last = 16384 * index // 3, 16384 * (index + 1) // 3 - 1
            clients[index].execute_command("CLUSTER", "ADDSLOTS", *range(first, last + 1))
        names = [client.execute_command("CLUSTER", "MYID") for client in clients]
        for index in range(3):
            until(lambda i=index: _replicates(clients[3 + i], names[i]), "it replicates", 15.0)
        until(
            lambda: all(c.cluster("INFO")["cluster_state"] == "ok" for c in clients),
            "the cluster is whole",
            20.0,
        )
        until(
            lambda: all(c.info("replication")["master_link_status"] == "up" for c in clients[3:]),
            "links up",
            20.0,
        )
        yield "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes), nodes


def _replicates(client: Redis, name: str) -> bool:
    try:
        return bool(client.execute_command("CLUSTER", "REPLICATE", name))  # type: ignore[no-untyped-call]
    except Exception:
        return False  # it has not heard of that node yet
