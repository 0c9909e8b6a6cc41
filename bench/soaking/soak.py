"""The soak itself: warm up, look at rest, load for the given time with bad weather, look again."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from bench.soaking.callers import Callers
from bench.soaking.gauges import Gauges, Rest, at_rest
from bench.soaking.judgement import Verdict, memory, verdicts
from bench.soaking.people import People
from bench.soaking.questions import Questions
from bench.soaking.rude import Rude
from bench.soaking.scene import STREAMS, Scene
from bench.soaking.tally import Tally
from bench.soaking.weather import Weather
from tests.fakes.eventually import eventually
from tests.system.client import Client
from tests.system.prompts import prompt

Ways = list[tuple[Callable[[], Awaitable[None]], int]]
#: A visit that takes longer hangs.
VISIT_S: Final = 90.0
PAUSE_S: Final = 0.25
FREEZE_EVERY_S: Final = 20.0
#: As many as may wait for a stream.
MORE: Final = 4


@dataclass(frozen=True)
class Plan:
    """Seconds, but for `people`, who are there at once."""

    warm_s: float = 60.0
    load_s: float = 1140.0
    people: int = 32
    burst_every_s: float = 75.0
    burst_s: float = 8.0
    restart_every_s: float = 180.0
    seed: int = 1


@dataclass
class Outcome:
    """All that a soak has to say."""

    verdicts: list[Verdict]
    tally: Tally
    first: Rest
    last: Rest
    model: dict[str, Any]
    slopes: dict[str, float]
    bursts: int
    restarts: int
    scrapes: int
    loaded: tuple[float, float]
    samples: list[tuple[int, dict[str, float]]] = field(default_factory=list)


async def soak(scene: Scene, plan: Plan) -> Outcome:
    """Of a scene that nobody else uses; raises only if the soak itself is broken."""
    chance, tally = random.Random(plan.seed), Tally()
    weather, gauges = Weather(scene, chance, plan.burst_s), Gauges(scene, tally)
    async with Client(scene.gateway.url) as client:
        people = People(client, Questions(chance), tally, weather, chance)
        load = _Load(people, scene, weather, plan)
        async with asyncio.timeout(plan.warm_s + 600), load.running(everything=False):
            await asyncio.sleep(plan.warm_s)
        first = await at_rest(scene)
        began = tally.at()
        async with load.running(everything=True), _beside(gauges.watch()):
            await asyncio.sleep(plan.load_s)
        loaded = (began, tally.at())
        last, model = await at_rest(scene), scene.simulator.stats()
        probe = await _probe(scene, client)
    slopes = gauges.slopes()
    requests = gauges.samples[-1][0] - gauges.samples[0][0] if gauges.samples else 0
    judged = [*verdicts(scene, tally, first, last, model), probe, memory(slopes, requests)]
    return Outcome(
        judged, tally, first, last, model, slopes, weather.bursts, weather.restarts, gauges.scrapes, loaded,
        gauges.samples,
    )  # fmt: skip


class _Load:
    """People come and go; each has one visit at a time."""

    def __init__(self, people: People, scene: Scene, weather: Weather, plan: Plan) -> None:
        self._tally, self._chance = people.tally, people.chance
        self._scene, self._weather, self._plan = scene, weather, plan
        self._rude = Rude(people, scene)
        self._ways: Ways = [*people.ways(), *Callers(people).ways(), *self._rude.ways()]

    @asynccontextmanager
    async def running(self, *, everything: bool) -> AsyncIterator[None]:
        """Inside the block. Whoever is there at its end is served to the end; Redis is up again."""
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for _ in range(self._plan.people):
                group.create_task(self._person(over))
            group.create_task(self._freezer(over))
            group.create_task(self._watcher(over))
            try:
                if everything:
                    async with (
                        _beside(self._weather.storms(self._plan.burst_every_s)),
                        _beside(self._weather.restarts_of_redis(self._plan.restart_every_s)),
                    ):
                        yield
                else:
                    yield
            finally:
                over.set()

    async def _person(self, over: asyncio.Event) -> None:
        ways, weights = zip(*self._ways, strict=True)
        while not over.is_set():
            await self._visit(self._chance.choices(ways, weights)[0])
            await asyncio.sleep(self._chance.expovariate(1 / PAUSE_S))

    async def _freezer(self, over: asyncio.Event) -> None:
        """One reader at a time that reads nothing."""
        while not over.is_set():
            await self._visit(self._rude.freezes)
            await _unless(over, FREEZE_EVERY_S)

    async def _visit(self, way: Callable[[], Awaitable[None]]) -> None:
        name = getattr(way, "__name__", "?")
        self._tally.ways[name] += 1
        try:
            async with asyncio.timeout(VISIT_S):
                await way()
        except Exception as error:
            self._tally.problem(f"{name}: {type(error).__name__}", _innermost(error))

    async def _watcher(self, over: asyncio.Event) -> None:
        """A page that shows the pipeline: it comes, looks for a while, and leaves without a word."""
        while not over.is_set():
            async with (
                Client(self._scene.gateway.url) as client,
                client.listening("/pipeline/stream") as (_, events, _),
            ):
                for _ in range(self._chance.randrange(1, 40)):
                    seen = (await anext(events)).json
                    for stage in seen["stages"]:
                        self._tally.seen_waiting(stage["name"], stage["waiting"])
                    if any(stage["in_use"] > stage["capacity"] for stage in seen["stages"]):
                        self._tally.problem("more in use than there is", seen["stages"])
            self._tally.ways["watches"] += 1


async def _probe(scene: Scene, client: Client) -> Verdict:
    """I3, from outside: capacity + MORE requests reach exactly the capacity at the model."""
    scene.simulator.reset()
    hold = "probe"
    async with asyncio.TaskGroup() as group:
        asked = [
            group.create_task(client.complete(prompt(f"Probe {number}?", hold=hold, tokens=3)))
            for number in range(STREAMS + MORE)
        ]
        with contextlib.suppress(AssertionError):
            await eventually(lambda: scene.gateway.stage("llm_streams")["waiting"] == MORE, within=20)
        peak = scene.simulator.stats()["holding"].get(hold, 0)
        scene.simulator.release(hold)
    answered = sum(task.result().status == 200 for task in asked)
    return Verdict(
        f"{STREAMS} + {MORE} requests reach {STREAMS} at the model",
        (peak, answered) == (STREAMS, STREAMS + MORE),
        f"{peak} at once, {answered} answered",
    )


@asynccontextmanager
async def _beside(coroutine: Any) -> AsyncIterator[None]:
    """It runs until the end of the block."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(coroutine)
        try:
            yield
        finally:
            task.cancel()


async def _unless(over: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await over.wait()
    except TimeoutError:
        pass


def _innermost(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return repr(error)
