"""What sharing costs Redis: scripts, bytes and CPU per token, per follower process, per idle broadcast.

Three gateways on one Redis and one simulated model, all on loopback. Counts are exact and hardly depend on
the machine; CPU is Redis' own, and only a hint.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from redis import Redis

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.harness.servers import BENCH, LOAD_CORE, Server
from cache.embedded import find_server

REDIS, SIM, FIRST = 9180, 9181, 9182
GATEWAYS = 3
ANSWERS, TOKENS, TPS = 20, 200, 50
#: Seconds of the scenarios in which nothing is answered.
WINDOW_S = 20.0
IDLE = 500


@dataclass(frozen=True)
class Cost:
    """Of Redis between two moments."""

    scripts: float
    sent: float
    received: float
    cpu_us: float

    def less(self, other: Cost, factor: float = 1.0) -> Cost:
        return Cost(*(a - b * factor for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    def per(self, count: float) -> Cost:
        return Cost(*(value / count for value in vars(self).values()))


def now(redis: Redis) -> Cost:
    info, stats = redis.info(), redis.info("commandstats")
    calls = sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval", "publish"))
    cpu = info["used_cpu_user"] + info["used_cpu_sys"]
    return Cost(calls, info["total_net_input_bytes"], info["total_net_output_bytes"], cpu * 1e6)


def servers(*, durable: bool) -> Iterable[Server]:
    binary = find_server()
    assert binary is not None, "there is no Redis server to run"
    redis = [str(binary.path), "--port", str(REDIS), "--save", "", "--appendonly", "no"]
    yield Server("redis", redis, REDIS, LOAD_CORE)
    python = [sys.executable, "-m", "app.cli"]
    yield Server("sim", [*python, "sim", "--port", str(SIM)], SIM, LOAD_CORE)
    env = {
        "REDIS_URL": f"redis://127.0.0.1:{REDIS}",
        "OPENAI_BASE_URL": f"http://127.0.0.1:{SIM}/v1",
        "REFRAIN_DURABLE": "1" if durable else "0",
        "REFRAIN_SUBSCRIBE_TIMEOUT_S": "120",
    }
    for at in range(GATEWAYS):
        port = FIRST + at
        yield Server(f"gateway-{at}", [*python, "serve", "--port", str(port)], port, "0,1", env)


@asynccontextmanager
async def instance(*, durable: bool = False) -> AsyncIterator[tuple[Redis, aiohttp.ClientSession]]:
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncExitStack() as stack:
            for server in servers(durable=durable):
                await stack.enter_async_context(server.running(Path(folder)))
            http = await stack.enter_async_context(aiohttp.ClientSession())
            with Redis(port=REDIS) as redis:
                await answered(http, "warm", [0, 1, 2])  # every script is sent with its body once
                await asyncio.sleep(3)
                yield redis, http


async def submit(http: aiohttp.ClientSession, at: int, question: str) -> str:
    async with http.post(f"http://127.0.0.1:{FIRST + at}/chat", json={"message": question}) as reply:
        said = await reply.json()
    return f"http://127.0.0.1:{FIRST + at}{said['stream_url']}"


async def read(http: aiohttp.ClientSession, url: str) -> None:
    async with http.get(url) as reply:
        body = await reply.read()
    assert b"event: done" in body, body[-300:]


async def answered(http: aiohttp.ClientSession, name: str, readers: list[int]) -> None:
    """ANSWERS questions at once; `readers` are the gateways of each one's readers, the first leads."""
    async with asyncio.TaskGroup() as group:
        for number in range(ANSWERS):
            group.create_task(_one(http, f"{name} {number} [[sim tps={TPS} tokens={TOKENS}]]", readers))


async def _one(http: aiohttp.ClientSession, question: str, readers: list[int]) -> None:
    urls = [await submit(http, at, question) for at in readers]
    async with asyncio.TaskGroup() as group:
        for url in urls:
            group.create_task(read(http, url))


async def measured(
    redis: Redis, http: aiohttp.ClientSession, name: str, readers: list[int], rest: Cost
) -> Cost:
    """Per answer, with what the gateways cost at rest taken off."""
    before, began = now(redis), time.monotonic()
    await answered(http, name, readers)
    await asyncio.sleep(1)
    return now(redis).less(before).less(rest, time.monotonic() - began).per(ANSWERS)


async def main(*, write: bool) -> None:
    rows: list[tuple[str, Cost]] = []
    async with instance() as (redis, http):
        before = now(redis)
        await asyncio.sleep(WINDOW_S)
        rest = now(redis).less(before).per(WINDOW_S)
        rows.append(("a gateway at rest, per second", rest.per(GATEWAYS)))
        for name, readers in (
            ("an answer that nobody else follows", [0]),
            ("an answer with a reader in one other process", [0, 1]),
            ("an answer with 20 readers in one other process", [0, *[1] * 20]),
            ("an answer with a reader in each of two other processes", [0, 1, 2]),
        ):
            rows.append((name, await measured(redis, http, name, readers, rest)))
        for number in range(IDLE):
            await submit(http, number % GATEWAYS, f"idle {number}")
        before = now(redis)
        await asyncio.sleep(WINDOW_S)
        idle = now(redis).less(before).less(rest, WINDOW_S).per(WINDOW_S)
        rows.append(("a broadcast that waits for a listener, per second", idle.per(IDLE)))
    async with instance(durable=True) as (redis, http):
        name = "an answer that nobody else follows, REFRAIN_DURABLE=1"
        rows.append((name, await measured(redis, http, name, [0], rest)))
    page = table(rows)
    print(page)
    if write:
        (BENCH / "SCALE.md").write_text(page)


def table(rows: list[tuple[str, Cost]]) -> str:
    lines = [
        "# What sharing costs Redis",
        "",
        "Command: `make bench BENCHES=bench/scale.py ARGS=--write`."
        f" Answers of {TOKENS} tokens at {TPS} a second, {ANSWERS} at once.",
        "",
        "| What | Redis calls | bytes to Redis | bytes from Redis | Redis CPU µs |",
        "|---|---|---|---|---|",
    ]
    for name, cost in rows:
        lines.append(
            f"| {name} | {cost.scripts:.2f} | {cost.sent:,.0f} | {cost.received:,.0f} | {cost.cpu_us:,.0f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true", help="bench/SCALE.md becomes this run's")
    asyncio.run(main(write=parser.parse_args().write))
