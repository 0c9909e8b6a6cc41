"""What the processes show of themselves: samples under load, and everything there is at rest."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import psutil

from bench.soaking.scene import Scene
from bench.soaking.tally import Tally
from tests.system.crew import conserved

EVERY_S: Final = 5.0
REST_S: Final = 90.0
MIB: Final = 1 << 20


@dataclass(frozen=True)
class Rest:
    """`restless`: what still ran when no rest had come in time. `fds` without connections to the model, which
    idle in a pool and end by themselves.
    """

    fds: dict[str, int]
    upstream_connections: dict[str, int]
    threads: dict[str, int]
    rss_mib: dict[str, float]
    tasks: int
    records: int
    redis_keys: int
    redis_without_ttl: list[str]
    redis_clients: int
    redis_mib: float
    stages: list[dict[str, Any]]
    totals: dict[str, float]
    series: dict[str, float]
    waited_s: float
    restless: str | None

    def brief(self) -> dict[str, Any]:
        shown = asdict(self)
        return {name: shown[name] for name in shown if name not in ("stages", "totals", "series")}


@dataclass
class Gauges:
    """`samples`: requests so far, and MiB resident by process."""

    scene: Scene
    tally: Tally
    samples: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    scrapes: int = 0

    async def watch(self) -> None:
        """Row 99 at each scrape; memory beside it."""
        while True:
            await asyncio.sleep(EVERY_S)
            self.samples.append((self.tally.requests, resident(self.scene)))
            try:
                conserved(await asyncio.to_thread(self.scene.gateway.metrics))
            except AssertionError as error:
                self.tally.problem("permits were not conserved", error)
            self.scrapes += 1

    def slopes(self) -> dict[str, float]:
        """MiB per 10,000 requests, by least squares: of all processes together, and of each."""
        names = list(self.samples[0][1]) if self.samples else []
        xs = [requests / 10_000 for requests, _ in self.samples]
        each = {name: slope(xs, [sizes.get(name, math.nan) for _, sizes in self.samples]) for name in names}
        return {"all": slope(xs, [sum(sizes.values()) for _, sizes in self.samples])} | each


def slope(xs: list[float], ys: list[float]) -> float:
    """Least squares; nan without two different places."""
    if len(set(xs)) < 2:
        return math.nan
    middle_x, middle_y = sum(xs) / len(xs), sum(ys) / len(ys)
    over = sum((x - middle_x) * (y - middle_y) for x, y in zip(xs, ys, strict=True))
    return over / sum((x - middle_x) ** 2 for x in xs)


def resident(scene: Scene) -> dict[str, float]:
    return {name: process.memory_info().rss / MIB for name, process in scene.processes().items()}


async def at_rest(scene: Scene) -> Rest:
    """Wait until nothing runs and nothing is kept, REST_S at most, then look."""
    began = time.monotonic()
    while True:
        why, waited_s = await asyncio.to_thread(_restless, scene), time.monotonic() - began
        if why is None or waited_s > REST_S:
            return await asyncio.to_thread(_look, scene, waited_s, why)
        await asyncio.sleep(0.2)


def _restless(scene: Scene) -> str | None:
    if not scene.linked():
        return "Redis is not linked"
    seen = scene.gateway.get("/pipeline")
    for stage in seen["stages"]:
        if stage["in_use"] or stage["waiting"]:
            return f"{stage['name']}: {stage['in_use']} in use, {stage['waiting']} waiting"
    for name in ("broadcasts", "subscribers", "upstream_in_flight", "records"):
        if seen["totals"][name]:
            return f"{name}: {seen['totals'][name]}"
    stats = scene.simulator.stats()
    busy = stats["in_flight"] + stats["prepare"]["in_flight"]
    return f"the model is busy: {busy}" if busy else None


def _look(scene: Scene, waited_s: float, restless: str | None) -> Rest:
    processes = scene.processes()
    upstream = {name: scene.upstream_connections(process) for name, process in processes.items()}
    seen = scene.gateway.get("/pipeline")
    with scene.redis() as redis:
        names = [str(name) for name in redis.scan_iter(count=1000)]
        endless = sorted(name for name in names if redis.ttl(name) == -1)
        clients = len(redis.client_list()) - 1
        size = redis.info("memory")["used_memory"] / MIB
    return Rest(
        fds={name: _fds(process) - upstream[name] for name, process in processes.items()},
        upstream_connections=upstream,
        threads={name: process.num_threads() for name, process in processes.items()},
        rss_mib={name: round(process.memory_info().rss / MIB, 2) for name, process in processes.items()},
        tasks=seen["totals"]["tasks"],
        records=seen["totals"]["records"],
        redis_keys=len(names),
        redis_without_ttl=endless,
        redis_clients=clients,
        redis_mib=round(size, 2),
        stages=seen["stages"],
        totals=seen["totals"],
        series=scene.gateway.metrics(),
        waited_s=round(waited_s, 1),
        restless=restless,
    )


def _fds(process: psutil.Process) -> int:
    number: int = process.num_fds()
    return number
