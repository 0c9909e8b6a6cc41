"""Several gateways on one Redis, each behind faults of its own, as if on machines of their own."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.faults import FaultProxy
from tests.servers import RedisServer, standalone
from tests.system.client import Client
from tests.system.processes import GatewayProcess, SimulatorProcess
from tests.system.scene import hook_of

#: Short, so that what waits for a lease takes a second or two.
LEASE_S = 2.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/cluster" in item.nodeid:
            item.add_marker(pytest.mark.system)


@dataclass
class Node:
    """One gateway: its process, and the faults between it and Redis."""

    process: GatewayProcess
    faults: FaultProxy | None

    def stop(self) -> None:
        self.process.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()


@dataclass
class Cluster:
    nodes: list[Node]
    redis: RedisServer | None
    simulator: SimulatorProcess
    clients: list[Client] = field(default_factory=list)

    def keys(self) -> list[str]:
        assert self.redis is not None
        with self.redis.client as client:
            return [str(key) for key in client.keys("*")]

    def keys_without_ttl(self) -> list[str]:
        assert self.redis is not None
        with self.redis.client as client:
            return [key for key in self.keys() if client.ttl(key) == -1 and not key.endswith(":f")]

    def errors(self) -> list[object]:
        """What the gateways logged as errors: each is a bug."""
        return [
            line for node in self.nodes for line in node.process.log if line["level"] in ("error", "critical")
        ]

    async def until_rest(self, within: float = 15.0) -> None:
        """I3 and I4, as far as they show from outside, on every node that runs."""
        assert self.errors() == []
        alive = [node for node in self.nodes if node.process.popen.poll() is None]
        async with asyncio.timeout(within):
            while not all([await asyncio.to_thread(node.process.at_rest) for node in alive]):
                await asyncio.sleep(0.05)
        for node in alive:
            _conserves(node.process.metrics())
        if self.redis is not None:
            assert self.keys_without_ttl() == []

    async def until_linked(self, within: float = 10.0) -> None:
        """Every node shares with the others again."""
        async with asyncio.timeout(within):
            for node in self.nodes:
                while node.process.get("/readyz")["components"]["redis"] != "ok":
                    await asyncio.sleep(0.02)

    @asynccontextmanager
    async def clients_of_all(self) -> AsyncIterator[list[Client]]:
        async with AsyncExitStack() as stack:
            yield [await stack.enter_async_context(Client(node.process.url)) for node in self.nodes]


def _conserves(series: dict[str, float]) -> None:
    for stage in ("cache", "leaders", "followers", "llm_streams", "llm_calls"):
        label = f'{{stage="{stage}"}}'
        admitted, released, reclaimed, in_use = (
            series[f"refrain_{name}{label}"]
            for name in (
                "stage_admitted_total",
                "stage_released_total",
                "permits_reclaimed_total",
                "stage_in_use",
            )
        )
        assert admitted == released + reclaimed + in_use, (stage, admitted, released, reclaimed, in_use)


class Launcher:
    """Starts what a test asks for; everything ends with `stack`."""

    def __init__(self, stack: ExitStack) -> None:
        self.clusters: list[Cluster] = []
        self._stack = stack

    def __call__(
        self,
        count: int,
        *,
        faults: bool = False,
        url: str | None = None,
        sim: dict[str, Any] | None = None,
        hook: bool = False,
        **settings: object,
    ) -> Cluster:
        redis = self._stack.enter_context(standalone()) if url is None else None
        simulator = SimulatorProcess(**(sim or {}))
        self._stack.callback(simulator.kill)
        if hook:
            settings["PREPARE_URL"] = hook_of(simulator)
        cluster = Cluster([], redis, simulator)
        self.clusters.append(cluster)
        self._node_of = {id(cluster): lambda: self._node(cluster, faults, url, settings)}
        for _ in range(count):
            cluster.nodes.append(self._node(cluster, faults, url, settings))
        return cluster

    def renew(self, cluster: Cluster, at: int) -> None:
        """Another gateway in the place of one that is gone."""
        cluster.nodes[at] = self._node_of[id(cluster)]()

    def _node(self, cluster: Cluster, faults: bool, url: str | None, settings: dict[str, object]) -> Node:
        proxy = None
        if cluster.redis is not None:
            url = cluster.redis.url
            if faults:
                proxy = self._stack.enter_context(FaultProxy(cluster.redis.port))
                url = f"redis://127.0.0.1:{proxy.port}"
        options: dict[str, Any] = {"LEASE_S": LEASE_S, **settings}
        gateway = GatewayProcess(cluster.simulator.base_url, REDIS_URL=url, **options)
        self._stack.callback(gateway.kill)
        return Node(gateway, proxy)


@pytest.fixture
def launch() -> Iterator[Callable[..., Cluster]]:
    """`launch(3, faults=True, QUEUE_SIZE=4)`: so many gateways on one Redis, ended with the test."""
    with ExitStack() as stack:
        launcher = Launcher(stack)
        yield launcher
        for cluster in launcher.clusters:
            assert cluster.errors() == []
