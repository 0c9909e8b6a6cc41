"""The real processes of a soak: a simulated model, a Redis of its own, a gateway with small limits."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import psutil
from redis import Redis

from tests.servers import RedisServer, standalone, until
from tests.system.processes import GatewayProcess, SimulatorProcess

STREAMS: Final = 8
RETENTION_S: Final = 8.0
#: Small, so that queues form, timers fire and what is kept is bounded long before the end.
LIMITS: Final[dict[str, object]] = {
    "MAX_CONCURRENT_LEADERS": 3,
    "MAX_CONCURRENT_FOLLOWERS": 4,
    "MAX_CONCURRENT_LLM_STREAMS": STREAMS,
    "QUEUE_SIZE": 12,
    "MAX_PENDING": 12,
    "QUEUE_TIMEOUT_S": 8,
    "SLOT_TIMEOUT_S": 10,
    "PREPARE_TIMEOUT_S": 5,
    "FIRST_TOKEN_TIMEOUT_S": 6,
    "STREAM_IDLE_TIMEOUT_S": 5,
    "STREAM_TIMEOUT_S": 30,
    "SEND_TIMEOUT_S": 2,
    "SUBSCRIBE_TIMEOUT_S": 4,
    "ABANDON_GRACE_S": 3,
    "RETENTION_S": RETENTION_S,
    "RETENTION_BYTES": 64 << 20,
    "LOCAL_CACHE_BYTES": 4 << 20,
    "CACHE_TTL_S": 60,
    "LEASE_S": 4,
}


class Scene:
    """`server` is None with the embedded Redis."""

    def __init__(
        self, gateway: GatewayProcess, simulator: SimulatorProcess, server: RedisServer | None, workers: int
    ) -> None:
        self.gateway = gateway
        self.simulator = simulator
        self.workers = workers
        self._server = server

    def processes(self) -> dict[str, psutil.Process]:
        """The gateway's own by name; an embedded Redis is none of them."""
        parent = psutil.Process(self.gateway.pid)
        if self.workers == 1:
            return {"gateway": parent}
        crew = {one["worker"]: one["pid"] for one in self.gateway.get("/pipeline")["workers"]}
        return {"parent": parent} | {f"worker {at}": psutil.Process(pid) for at, pid in sorted(crew.items())}

    def redis(self) -> Redis:
        if self._server is not None:
            return self._server.client
        words = self._embedded().cmdline()
        found = next(word for word in words[0].split() if word.startswith("unixsocket:"))
        return Redis(unix_socket_path=found.partition(":")[2], decode_responses=True)

    async def restart_redis(self, away_s: float) -> None:
        """kill -9, and up again without a memory; an embedded one is started again by the gateway."""
        if self._server is None:
            self._embedded().send_signal(signal.SIGKILL)
            return
        self._server.kill()
        try:
            await asyncio.sleep(away_s)
        finally:
            self._server.start()

    def linked(self) -> bool:
        known = self.gateway.get("/readyz")
        return bool(known.get("components", {}).get("redis") == "ok")

    def upstream_connections(self, process: psutil.Process) -> int:
        port = int(self.simulator.url.rpartition(":")[2])
        return sum(bool(one.raddr) and one.raddr.port == port for one in process.net_connections(kind="tcp"))

    def _embedded(self) -> psutil.Process:
        children = psutil.Process(self.gateway.pid).children(recursive=True)
        return next(one for one in children if one.name() in ("redis-server", "valkey-server"))

    def errors(self) -> list[Any]:
        """What was logged as an error: each is a bug."""
        return [line for line in self.gateway.log if line["level"] in ("error", "critical")]


@contextmanager
def scene(workers: int, *, embedded: bool, seed: int, **settings: object) -> Iterator[Scene]:
    """All of it up and linked; killed with the block."""
    with ExitStack() as stack:
        simulator = SimulatorProcess(ttft=0.02, tps=0, tokens=20, prepare_delay=0.01, seed=seed)
        stack.callback(simulator.kill)
        server = None if embedded else stack.enter_context(standalone())
        limits = LIMITS | ({} if server is None else {"REDIS_URL": server.url}) | settings
        gateway = GatewayProcess(
            simulator.base_url, workers=workers, PREPARE_URL=simulator.url + "/prepare", **limits
        )
        stack.callback(gateway.kill)
        made = Scene(gateway, simulator, server, workers)
        until(made.linked, "the gateway is linked to its Redis")
        yield made
