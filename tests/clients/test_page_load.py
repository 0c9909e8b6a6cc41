"""The live page under load, with a worker killed and Redis away; on a desk and on a phone."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import Browser  # type: ignore[import-not-found]

from tests.clients.visits import DESKTOP, PHONE, Visit, tab, visitor
from tests.fakes.eventually import eventually
from tests.servers import standalone
from tests.system.client import Client
from tests.system.crew import crew
from tests.system.processes import GatewayProcess
from tests.system.scene import Simulate, Start

pytestmark = pytest.mark.anyio

CLIENTS = 30
AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"


async def _visit_again_and_again(client: Client, chance: random.Random, over: asyncio.Event) -> None:
    while not over.is_set():
        question = f"Question {chance.randint(1, 40)}"
        try:
            if chance.random() < 0.5:
                await client.chunks(question)
            else:
                accepted = await client.submit(question, cache="refresh" if chance.random() < 0.3 else True)
                if accepted.status in (200, 202):
                    await client.stream(accepted.json["stream_url"])
        except (aiohttp.ClientError, TimeoutError):
            continue  # its worker was killed
        await asyncio.sleep(chance.random() / 4)


@asynccontextmanager
async def crowd(gateway: GatewayProcess) -> AsyncIterator[None]:
    """Thirty scripted clients, inside the block."""
    over = asyncio.Event()
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(_visit_again_and_again(client, random.Random(number), over))
        try:
            yield
        finally:
            over.set()


async def _killed_and_back(visit: Visit, gateway: GatewayProcess) -> None:
    before = crew(gateway)
    os.kill(before[1], signal.SIGKILL)
    await eventually(lambda: crew(gateway).get(1) not in (None, before[1]))
    again = crew(gateway)[1]
    await visit.page.locator('tr[data-worker="1"]', has_text=str(again)).wait_for()
    await visit.shows("#health", "ready")


@pytest.mark.parametrize("size", ["desktop", "phone"])
async def test_the_page_tells_what_happens_and_goes_on(
    browser: Browser, simulate: Simulate, start: Start, size: str
) -> None:
    """Row 79 for the eye: full stages, a killed worker and a Redis that is gone are seen; and their end."""
    options = DESKTOP if size == "desktop" else PHONE
    with standalone() as redis:
        gateway = start(
            simulate(ttft=0.05, tps=60, tokens=20),
            workers=2,
            REDIS_URL=redis.url,
            MAX_CONCURRENT_LLM_STREAMS=4,
            MAX_CONCURRENT_LEADERS=4,
        )
        async with visitor(browser, **options) as visiting, crowd(gateway):
            visit = await tab(visiting)
            await visit.open(gateway.url)
            await visit.shows("#components", "redis ok")
            await visit.page.locator('[data-stage="llm_streams"].full.queued').wait_for()
            await visit.page.locator("#charts .area.call[d*=L]").first.wait_for(state="attached")
            await visit.page.locator("#broadcasts tbody tr").nth(3).wait_for()
            await visit.ask("And what do I get?")
            assert await visit.answer()
            assert await visit.fits()
            await _killed_and_back(visit, gateway)
            redis.signal(signal.SIGSTOP)
            await visit.shows("#components", "redis unreachable")
            await visit.shows("#health", "degraded")
            await visit.ask("And without Redis?")
            assert await visit.answer()
            redis.signal(signal.SIGCONT)
            await visit.shows("#components", "redis ok")
            await visit.shows("#health", "ready")
            assert visit.complaints == []


@pytest.mark.parametrize("size", ["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_nobody_is_kept_out(
    browser: Browser, simulate: Simulate, start: Start, size: str, scheme: str
) -> None:
    """Labels, contrast, names of regions and reachability by keyboard, judged by axe-core's rules."""
    options = {**(DESKTOP if size == "desktop" else PHONE), "color_scheme": scheme, "bypass_csp": True}
    gateway = start(simulate(ttft=0, tps=0), workers=2)
    async with visitor(browser, **options) as visiting:
        visit = await tab(visiting)
        await visit.open(gateway.url)
        await visit.ask("Is it readable?")
        assert await visit.answer()
        await visit.page.add_script_tag(path=str(AXE))
        judged = await visit.page.evaluate("axe.run()")
        found = [(one["id"], [node["target"] for node in one["nodes"]]) for one in judged["violations"]]
        assert found == []
        assert len(judged["passes"]) > 20
