"""One load for all: two gateways, scraped by a real Prometheus while everything that it counts happens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.ops import prepared
from tests.ops.load import ADMIN_KEY, LIMITS, Load
from tests.ops.prometheus import Prometheus, Scraped, configure
from tests.servers import standalone
from tests.system.processes import GatewayProcess, SimulatorProcess
from tests.system.workplace import Workplace


@pytest.fixture(scope="session")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    with ExitStack() as stack:
        redis = stack.enter_context(standalone())
        simulator = SimulatorProcess(ttft=0.02, tps=0, tokens=8)
        stack.callback(simulator.kill)
        gateways = []
        folder = tmp_path_factory.mktemp("preparation")
        preparing = {**_planning(simulator), **prepared.settings(folder / "flows")}
        given: dict[str, object]
        for workers, settings in ((2, {}), (1, preparing)):
            given = {"REDIS_URL": redis.url, **LIMITS, **settings}
            gateway = GatewayProcess(simulator.base_url, workers=workers, **given)
            stack.callback(gateway.kill)
            gateways.append(gateway)
        instances = [gateway.url.removeprefix("http://") for gateway in gateways]
        prometheus = _prometheus(stack, tmp_path_factory.mktemp("prometheus"), instances)
        begin = time.time()
        asyncio.run(Load(prometheus, gateways, simulator, redis, Workplace(folder)).run())
        yield Scraped(prometheus, instances, begin, time.time())


def _planning(simulator: SimulatorProcess) -> dict[str, str]:
    return {"PREPARE_MODEL": "planner", "PREPARE_URL": simulator.url + "/prepare"}


def _prometheus(stack: ExitStack, folder: Path, instances: list[str]) -> Prometheus:
    prometheus = Prometheus(configure(folder, instances, ADMIN_KEY))
    stack.callback(prometheus.kill)
    return prometheus
