"""The workers of one gateway, one by one: clients that reach just one, and what scrapes must hold."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from types import SimpleNamespace

import aiohttp
import psutil

from tests.system.client import Client
from tests.system.processes import GatewayProcess

STAGES = ("cache", "leaders", "followers", "llm_streams", "llm_calls")


def processes(gateway: GatewayProcess) -> list[psutil.Process]:
    """All that the instance consists of, without its parent."""
    return psutil.Process(gateway.pid).children(recursive=True)


def gone(some: list[psutil.Process]) -> bool:
    """Ended, whether or not whoever inherited them has taken notice."""
    return not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in some)


def crew(gateway: GatewayProcess) -> dict[int, int]:
    """The pid of each worker that is shown as it is now, by number."""
    return {one["worker"]: one["pid"] for one in gateway.get("/pipeline")["workers"] if not one["stale"]}


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """They stand still inside the block."""
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            if psutil.pid_exists(pid):
                os.kill(pid, signal.SIGCONT)


class Pinned(Client):
    """A client with one connection: all that it asks, one by one, goes to the worker that accepted it."""

    async def __aenter__(self) -> Pinned:
        self._made = 0
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_start.append(self._connects)
        self.http = aiohttp.ClientSession(
            self._url,
            headers=self._headers,
            connector=aiohttp.TCPConnector(limit=1, keepalive_timeout=60),
            timeout=aiohttp.ClientTimeout(total=60),
            trace_configs=[trace],
        )
        return self

    async def _connects(
        self, session: aiohttp.ClientSession, context: SimpleNamespace, params: object
    ) -> None:
        self._made += 1
        assert self._made == 1, "the connection was closed, and the next may reach another worker"


@asynccontextmanager
async def pinned(gateway: GatewayProcess, pids: list[int]) -> AsyncIterator[list[Pinned]]:
    """One client of each of these workers: the others stand still while it connects."""
    everybody = list(crew(gateway).values())
    async with AsyncExitStack() as stack:
        clients = []
        for pid in pids:
            client = await stack.enter_async_context(Pinned(gateway.url))
            with stopped(*(other for other in everybody if other != pid)):
                assert (await client.call("GET", "/healthz")).status == 200
            clients.append(client)
        yield clients


def conserved(series: dict[str, float]) -> None:
    """Row 99: in every stage, what was admitted is released, taken back, or held."""
    for stage in STAGES:
        label = f'{{stage="{stage}"}}'
        admitted, released, in_use = (
            series[f"refrain_stage_{name}{label}"] for name in ("admitted_total", "released_total", "in_use")
        )
        reclaimed = series[f"refrain_permits_reclaimed_total{label}"]
        assert admitted == released + reclaimed + in_use, (stage, admitted, released, reclaimed, in_use)


def series(text: bytes) -> dict[str, float]:
    """A scrape, as `name{label="value"}` to its value."""
    lines = (line for line in text.decode().splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def never_back(before: dict[str, float], now: dict[str, float]) -> bool:
    """No counter, and no part of a histogram, is less than it was."""
    ups = ("_total", "_count", "_sum", "_bucket")
    counters = [name for name in before if name.partition("{")[0].endswith(ups)]
    fallen = {name: (before[name], now.get(name)) for name in counters if now.get(name, -1.0) < before[name]}
    assert not fallen, fallen
    return bool(counters)
