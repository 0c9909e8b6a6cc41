"""Every test here starts the real program; `start` and `simulate` stop what they started."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.system.processes import GatewayProcess, SimulatorProcess


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/system" in item.nodeid:
            item.add_marker(pytest.mark.system)


@pytest.fixture
def simulate() -> Iterator[Callable[..., SimulatorProcess]]:
    """`simulate(tps=0, …)` starts a simulated model with these flags."""
    with ExitStack() as stack:

        def start(**flags: object) -> SimulatorProcess:
            simulator = SimulatorProcess(**flags)
            stack.callback(simulator.kill)
            return simulator

        yield start


@pytest.fixture
def start(request: pytest.FixtureRequest) -> Iterator[Callable[..., GatewayProcess]]:
    """`start(simulator, QUEUE_SIZE=4, …)` starts a gateway with these settings in front of it."""
    alone = request.node.get_closest_marker("per_process") is not None
    with ExitStack() as stack:

        def begin(simulator: SimulatorProcess | None = None, **settings: Any) -> GatewayProcess:
            upstream = simulator.base_url if simulator else None
            if alone and "WEB_CONCURRENCY" not in settings:
                settings.setdefault("workers", 1)
            gateway = GatewayProcess(upstream, **settings)
            stack.callback(gateway.kill)
            return gateway

        yield begin
