"""A mixed load that moves every metric once: each step ends when Prometheus has seen what it is for."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from itertools import count

import aiohttp

from tests.fakes.eventually import eventually
from tests.ops import prepared
from tests.ops.prometheus import Prometheus
from tests.servers import RedisServer
from tests.system.client import Client
from tests.system.crew import processes
from tests.system.processes import GatewayProcess, SimulatorProcess, fetch
from tests.system.prompts import prompt
from tests.system.scene import together
from tests.system.workplace import Workplace

ADMIN_KEY = "the-key-of-the-operator"
#: Small limits, so that few callers fill them.
LIMITS: dict[str, object] = {
    "MAX_CONCURRENT_LEADERS": 2,
    "MAX_CONCURRENT_LLM_STREAMS": 2,
    "MAX_CONCURRENT_LLM_CALLS": 1,
    "QUEUE_SIZE": 2,
    "ABANDON_GRACE_S": 0,
    "SUBSCRIBE_TIMEOUT_S": 2,
    "LOCAL_CACHE_BYTES": 0,
    "ADMIN_KEY": ADMIN_KEY,
}
#: Far more than anything here takes on an idle machine.
_SEEN_S = 60.0
_SCRAPES = 8
_NUMBERS = count()


@dataclass
class Load:
    """Two gateways on one Redis and one model. The first has two workers, the second plans its answers, and
    has tools and a workflow.
    """

    prometheus: Prometheus
    gateways: list[GatewayProcess]
    simulator: SimulatorProcess
    redis: RedisServer
    work: Workplace

    async def run(self) -> None:
        async with Client(self.gateways[0].url) as one, Client(self.gateways[1].url) as planned:
            await self._mixed(one, planned)
            await self._full(one, planned)
            await self._overdue(planned)
            await self._without_redis(one)
            await self._killed(one)
            await self._mixed(one, planned)

    async def _seen(self, *queries: str) -> None:
        """Until each of them has shown something above 0, at least once."""
        for query in queries:
            await eventually(lambda query=query: self.prometheus.value(query) > 0, _SEEN_S)  # type: ignore[misc]

    async def _mixed(self, *clients: Client) -> None:
        """Waves of all sorts, while Prometheus looks several times."""
        scrapes = 'min(count_over_time(up{job="refrain"}[1h]))'
        enough = self.prometheus.value(scrapes) + _SCRAPES
        while self.prometheus.value(scrapes) < enough:
            await together(_wave(client, f"{next(_NUMBERS)}") for client in clients)
            await prepared.wave(clients[-1], self.work, f"{next(_NUMBERS)}")

    async def _full(self, one: Client, planned: Client) -> None:
        """Answers and plans stand still until every place is taken, some wait, and some are refused."""
        gate = f"gate-{next(_NUMBERS)}"
        async with asyncio.TaskGroup() as group:
            for number in range(8):
                question = prompt(f"{gate}, {number}", hold=gate)
                group.create_task(one.complete(question))
                group.create_task(planned.complete(f"Plan {question}"))
            await self._seen(
                'refrain_stage_waiting{stage="llm_streams"}',
                'refrain_stage_waiting{stage="llm_calls"}',
                'refrain_stage_waiting{stage="leaders"}',
                'refrain_stage_refused_total{reason="queue_full"}',
            )
            self.simulator.release(gate)

    async def _overdue(self, planned: Client) -> None:
        """A blocking tool runs on after its time, until it has been seen."""
        async with asyncio.timeout(_SEEN_S):
            while (await planned.complete(prepared.overdue(self.work))).status != 200:
                continue  # the places are still full of those before
        await self._seen("refrain_tool_left_threads")
        self.work.open("overdue")

    async def _without_redis(self, client: Client) -> None:
        """Look-ups fail, answers go on."""
        self.redis.kill()
        try:
            async with asyncio.timeout(_SEEN_S):
                while not self.prometheus.value("rate(refrain_redis_errors_total[15s])"):
                    await client.complete(f"Alone {next(_NUMBERS)}", max_tokens=2)
        finally:
            self.redis.start()
        await eventually(lambda: b'"redis":"ok"' in fetch(self.gateways[0].url + "/readyz"), _SEEN_S)

    async def _killed(self, client: Client) -> None:
        """The workers of the first gateway are killed, with a permit in the hands of one."""
        gate = f"gate-{next(_NUMBERS)}"
        async with asyncio.TaskGroup() as group:
            group.create_task(_cut(client, prompt(gate, hold=gate, hold_after=1)))
            await eventually(lambda: self.simulator.stats()["holding"].get(gate), _SEEN_S)
            await self._seen('refrain_stage_in_use{stage="llm_streams"}')
            for worker in processes(self.gateways[0]):
                worker.kill()
        await self._seen(
            "refrain_worker_restarts_total",
            "refrain_permits_reclaimed_total",
            'ALERTS{alertname="RefrainPermitReclaimed",alertstate="firing"}',
        )


async def _wave(client: Client, name: str) -> None:
    """One caller of each sort, and five with the same question."""
    await together(
        (
            client.complete("Asked before"),
            client.complete(f"Kept by nobody {name}", headers={"cache-control": "no-store"}),
            *(client.complete(prompt(f"Together {name}", tokens=20, tps=100)) for _ in range(5)),
            client.complete(prompt(f"Broken {name}", status=500)),
            client.complete(prompt(f"Too many {name}", status=429, retry_after=0)),
            client.complete(prompt(f"Wrong {name}", status=400)),
            _read(client, f"Read {name}"),
            _cancel(client, prompt(f"Cancel {name}", stall=1)),
            client.submit(f"Nobody listens {name}"),
        )
    )


async def _read(client: Client, question: str) -> None:
    reply = await client.submit(question)
    if reply.status in (200, 202):
        await client.stream(reply.json["stream_url"])


async def _cancel(client: Client, question: str) -> None:
    reply = await client.submit(question)
    if reply.status == 202:
        async with client.listening(reply.json["stream_url"]) as (_, events, _reader):
            await anext(events, None)
            await client.cancel(reply.json["id"])


async def _cut(client: Client, question: str) -> None:
    """Asked of a worker that is going to be killed."""
    with suppress(aiohttp.ClientError):
        await client.complete(question)
