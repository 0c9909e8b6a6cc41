"""Real clients against the real program: `start` and `simulate` as in tests/system, and a browser for all."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest
from playwright.async_api import Browser, async_playwright  # type: ignore[import-not-found]

from tests.clients.listeners import Listen, fetch_event_source, node_eventsource, of_browser
from tests.faults import FaultProxy
from tests.system.conftest import simulate, start
from tests.system.processes import GatewayProcess, SimulatorProcess

__all__ = ["simulate", "start"]

TOKENS = 12
_NUMBERS = itertools.count()
#: No sandbox for root in a container, and not a word to anybody but the gateway.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@pytest.fixture(scope="session")
def simulator() -> Iterator[SimulatorProcess]:
    """One for all: each test asks questions of its own."""
    process = SimulatorProcess(ttft=0, tps=0, tokens=TOKENS)
    yield process
    process.kill()


@pytest.fixture(scope="session")
def gateway(simulator: SimulatorProcess) -> Iterator[GatewayProcess]:
    """One for all that need no settings of their own; long enough a grace for a busy machine."""
    process = GatewayProcess(simulator.base_url, ABANDON_GRACE_S=60)
    yield process
    process.kill()


@pytest.fixture
def tag() -> str:
    """A word that no other test has in its questions and holds."""
    return f"t{next(_NUMBERS)}"


@pytest.fixture
def faults(gateway: GatewayProcess) -> Iterator[FaultProxy]:
    """A way to the gateway that can be cut."""
    with FaultProxy(int(gateway.url.rpartition(":")[2])) as proxy:
        yield proxy


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=list(FLAGS))
        yield browser
        await browser.close()


@pytest.fixture(params=["eventsource", "fetch-event-source", "browser"])
def listen(request: pytest.FixtureRequest) -> Listen:
    """`async with listen(url) as listener`: three EventSources, one test."""
    if request.param == "browser":
        return of_browser(request.getfixturevalue("browser"))
    return node_eventsource if request.param == "eventsource" else fetch_event_source
