"""Ten thousand clients that leave: by FIN and by RST, on every wire, alone and in company, in every phase.

Each round brings a crowd into one phase, sees it there, lets all of it leave, and waits for rest without
releasing anything: what held them has to be let go because they left. Then capacity + 10 requests have to
reach exactly `capacity` at the model: a permit that leaked would be missing, one given back twice would show.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import pytest

from tests.fakes.eventually import eventually
from tests.system.client import Client, text_of
from tests.system.processes import GatewayProcess, SimulatorProcess
from tests.system.prompts import prompt
from tests.system.raw import Leave, Wire, exchange, get, post, wire
from tests.system.scene import Simulate, Start, at_rest, filled, held, hook_of, together

pytestmark = pytest.mark.anyio

#: 8 phases × ROUNDS × 3 × GROUPS = 10,080 clients that leave.
ROUNDS = 6
GROUPS = 70
CAPACITY = 7
#: The model is to be left within 250 ms; the rest is for a busy machine.
ABORT_S = 0.25 + 2.0

WIRES = ("native", "streamed", "whole")
WAYS: tuple[Leave, ...] = ("fin", "rst")


class Crowd:
    """GROUPS questions, each asked on all three wires at once: a leader, and two followers of it."""

    def __init__(self, gateway: GatewayProcess, stack: AsyncExitStack, **directive: object) -> None:
        self._gateway = gateway
        self._stack = stack
        self._directive = directive
        self.clients: list[tuple[Wire, Leave]] = []

    async def come(self, words: str, *, groups: int = GROUPS, wires: tuple[str, ...] = WIRES) -> None:
        """Everybody asks; returns when all have sent, natives when their stream is asked for."""
        asked = [
            (kind, prompt(f"{words} {group}", **self._directive), group + place)
            for group in range(groups)
            for place, kind in enumerate(wires)
        ]
        await together(self._ask(kind, question, number) for kind, question, number in asked)

    async def _ask(self, kind: str, question: str, number: int) -> None:
        if kind == "native":
            request = get(await stream_url(self._gateway, question))
        else:
            request = ask(kind, question)
        # Every fifth has pipelined another request behind the running one.
        await self.enter(request + get("/healthz") * (number % 5 == 0), WAYS[number % 2])

    async def enter(self, request: bytes, way: Leave) -> Wire:
        client = await self._stack.enter_async_context(wire(self._gateway.url))
        await client.send(request)
        self.clients.append((client, way))
        return client

    async def leave(self) -> None:
        await together(client.leave(way) for client, way in self.clients)


def ask(kind: str, question: str) -> bytes:
    body = {"messages": [{"role": "user", "content": question}], "stream": kind == "streamed"}
    return post("/v1/chat/completions", body)


async def stream_url(gateway: GatewayProcess, question: str) -> str:
    reply = await exchange(gateway.url, post("/chat", {"message": question}, "connection: close"))
    assert reply.status == 202, reply.body
    url: str = reply.json["stream_url"]
    return url


def begin(simulate: Simulate, start: Start, **settings: object) -> tuple[SimulatorProcess, GatewayProcess]:
    simulator = simulate(ttft=0, tps=0)
    given = {"ABANDON_GRACE_S": 0, "MAX_CONCURRENT_LLM_STREAMS": CAPACITY, **settings}
    return simulator, start(simulator, **given)


async def nothing_is_left(simulator: SimulatorProcess, gateway: GatewayProcess) -> None:
    """At rest, and capacity + 10 requests reach exactly `capacity` at the model, and are all answered."""
    await at_rest(gateway)
    await eventually(lambda: simulator.stats()["in_flight"] == 0)
    capacity = int(gateway.stage("llm_streams")["capacity"])
    simulator.reset()
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        asked = [
            group.create_task(client.chunks(prompt(f"afterwards {number}", hold="afterwards")))
            for number in range(capacity + 10)
        ]
        await held(simulator, "afterwards", capacity)
        await filled(gateway, "llm_streams", capacity, 10)
        simulator.release("afterwards")
    assert all(frames[-1] == "[DONE]" and text_of(frames) for _, frames in (task.result() for task in asked))
    stats = simulator.stats()
    assert (stats["peak"], stats["completed"]) == (capacity, capacity + 10)
    await at_rest(gateway)


async def rounds_of(
    simulator: SimulatorProcess,
    gateway: GatewayProcess,
    arrived: str,
    expected: tuple[int, int] | None,
    **directive: object,
) -> None:
    """Bring a crowd until `arrived` (a stage or a hold) shows it, let it leave; so many rounds."""
    tasks = gateway.get("/pipeline")["totals"]["tasks"]
    for number in range(ROUNDS):
        named = {name: f"{value}-{number}" if value == arrived else value for name, value in directive.items()}
        async with AsyncExitStack() as stack:
            crowd = Crowd(gateway, stack, **named)
            await crowd.come(f"{arrived} {number}")
            if expected is not None:
                await filled(gateway, arrived, *expected)
            else:
                await held(simulator, f"{arrived}-{number}", GROUPS)
            await crowd.leave()
            rest = (expected[0], 0) if expected is not None else None
            if rest is not None:
                await filled(gateway, arrived, *rest)
            else:
                await eventually(gateway.at_rest)
    if expected is None:
        assert gateway.get("/pipeline")["totals"]["tasks"] <= tasks, "tasks outlive their clients"


async def test_while_queued(simulate: Simulate, start: Start) -> None:
    """Waiting for a leaders permit that others hold: the places in the queue are given up at once."""
    simulator, gateway = begin(simulate, start, MAX_CONCURRENT_LEADERS=2)
    await _behind_blockers(simulator, gateway, simulate, start)


async def _behind_blockers(
    simulator: SimulatorProcess, gateway: GatewayProcess, simulate: Simulate, start: Start
) -> None:
    raise NotImplementedError
