"""Ten thousand clients that leave: by FIN and by RST, on every wire, alone and in company, in every phase.

Each round brings a crowd into one phase, sees it there, lets all of it leave, and waits for rest without
releasing anything: what held them has to be let go because they left. Then capacity + 10 requests have to
reach exactly `capacity` at the model: a permit that leaked would be missing, one given back twice would show.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.fakes.eventually import eventually
from tests.system.client import Client, text_of
from tests.system.crew import crew, pinned
from tests.system.processes import GatewayProcess, SimulatorProcess, workers
from tests.system.prompts import prompt, saying
from tests.system.raw import Leave, Wire, exchange, get, post, wire
from tests.system.scene import Simulate, Start, accepted, at_rest, filled, held, hook_of, over, together

pytestmark = pytest.mark.anyio

#: Eight phases of ROUNDS crowds of 3 * GROUPS: 10,080 clients that leave.
ROUNDS = 6
GROUPS = 70
#: The model is to be left within 250 ms; the rest is for a busy machine.
ABORT_S = 0.25 + 2.0

#: Two of each; the leaders' are each worker's own.
PERMITS = {"leaders": 2 * workers(), "llm_streams": 2}

WIRES = ("native", "streamed", "whole")
WAYS: tuple[Leave, ...] = ("fin", "rst")


def asking(kind: str, question: str) -> bytes:
    if kind == "native":
        return post("/chat", {"message": question})
    body = {"messages": [{"role": "user", "content": question}], "stream": kind == "streamed"}
    return post("/v1/chat/completions", body)


class Scene:
    """A gateway, its model, and whoever is connected to it by hand."""

    def __init__(self, simulate: Simulate, start: Start, *, hook: bool = False, **settings: object) -> None:
        self.simulator: SimulatorProcess = simulate(ttft=0, tps=0)
        if hook:
            settings["PREPARE_URL"] = hook_of(self.simulator)
        self.gateway: GatewayProcess = start(self.simulator, ABANDON_GRACE_S=0, **settings)

    async def stream_url(self, question: str) -> str:
        request = post("/chat", {"message": question}, "connection: close")
        reply = await exchange(self.gateway.url, request)
        assert reply.status == 202, reply.body
        url: str = reply.json["stream_url"]
        return url

    async def request(self, kind: str, question: str) -> bytes:
        """What puts a client of that wire into the pipeline: a native one has submitted before."""
        return get(await self.stream_url(question)) if kind == "native" else asking(kind, question)

    async def gone(self) -> None:
        """Nothing runs at the gateway, nor at the model."""
        await eventually(self.gateway.at_rest, within=30)
        await eventually(lambda: self.simulator.stats()["in_flight"] == 0)
        await eventually(lambda: self.simulator.stats()["prepare"]["in_flight"] == 0)

    async def nothing_leaked(self) -> None:
        """Capacity + 10 requests reach exactly `capacity` at the model, and all are answered."""
        await at_rest(self.gateway)
        capacity = int(self.gateway.stage("llm_streams")["capacity"])
        self.simulator.reset()
        async with Client(self.gateway.url) as client, asyncio.TaskGroup() as group:
            questions = [prompt(f"afterwards {number}", hold="afterwards") for number in range(capacity + 10)]
            asked = [group.create_task(client.chunks(question)) for question in questions]
            await held(self.simulator, "afterwards", capacity)
            await filled(self.gateway, "llm_streams", capacity, 10)
            self.simulator.release("afterwards")
        for task in asked:
            _, frames = task.result()
            assert frames[-1] == "[DONE]"
            assert text_of(frames)
        stats = self.simulator.stats()
        assert (stats["peak"], stats["completed"]) == (capacity, capacity + 10)
        await at_rest(self.gateway)


class Crowd:
    """Clients that have sent their request. Every fifth has pipelined another one behind it."""

    def __init__(self, scene: Scene, stack: AsyncExitStack) -> None:
        self._scene = scene
        self._stack = stack
        self._clients: list[tuple[Wire, Leave]] = []

    async def ask(self, questions: list[str]) -> None:
        """Each question on all three wires at once: a leader, and two followers of it."""
        asked = [(kind, question) for question in questions for kind in WIRES]
        requests = await together(self._scene.request(kind, question) for kind, question in asked)
        await self.send(requests)

    async def send(self, requests: list[bytes]) -> None:
        await together(self._enter(number, request) for number, request in enumerate(requests))

    async def _enter(self, number: int, request: bytes) -> None:
        client = await self._stack.enter_async_context(wire(self._scene.gateway.url))
        await client.send(request + get("/healthz") * (number % 5 == 0))
        self._clients.append((client, WAYS[number % 2]))

    async def see(self, wanted: bytes) -> None:
        """Until everybody has got that."""
        await together(client.until(wanted) for client, _ in self._clients)

    async def leave(self) -> None:
        await together(client.leave(way) for client, way in self._clients)


@asynccontextmanager
async def crowd(scene: Scene) -> AsyncIterator[Crowd]:
    async with AsyncExitStack() as stack:
        yield Crowd(scene, stack)


async def _rounds(
    scene: Scene,
    arrived: Callable[[str], Awaitable[None]],
    left: Callable[[], Awaitable[None]],
    **directive: str,
) -> None:
    """ROUNDS crowds come, are seen by `arrived(hold)`, leave, and are seen gone by `left()`."""
    for number in range(ROUNDS):
        fresh = {name: value.format(number) for name, value in directive.items()}
        async with crowd(scene) as people:
            await people.ask([prompt(f"{number}.{group}", **fresh) for group in range(GROUPS)])
            await arrived(f"here-{number}")
            await people.leave()
            await left()


def all_aborted(calls: dict[str, int]) -> None:
    """One call for each question; one more per worker at most, where Redis did not answer in time."""
    assert (calls["aborted"], calls["completed"]) == (calls["calls"], 0)
    assert ROUNDS * GROUPS <= calls["calls"] <= ROUNDS * GROUPS * workers()


@asynccontextmanager
async def blocked(scene: Scene, stage: str, **directive: str) -> AsyncIterator[None]:
    """Requests hold all permits of `stage` until the end of the block; they are answered then."""
    async with (
        pinned(scene.gateway, list(crew(scene.gateway).values())) as doors,
        Client(scene.gateway.url) as client,
        asyncio.TaskGroup() as group,
    ):
        blockers = []
        for number in range(PERMITS[stage]):
            question = prompt(f"blocker {number}", **directive)
            chat = await accepted(doors[number % len(doors)], question)
            blockers.append(group.create_task(client.stream(chat["stream_url"])))
        await filled(scene.gateway, stage, PERMITS[stage], 0)
        yield
        scene.simulator.release("blocked")
    assert [task.result().end.name for task in blockers] == ["done"] * PERMITS[stage]


# -- the phases -----------------------------------------------------------------------------
async def test_clients_that_leave_while_queued(simulate: Simulate, start: Start) -> None:
    """Their places before the leaders stage are given up at once, while others still hold its permits."""
    # So long that nobody is shed because those who block have held their permits for long.
    patient = {"QUEUE_TIMEOUT_S": 3600, "MAX_CONCURRENT_LEADERS": 2, "MAX_CONCURRENT_LLM_STREAMS": 4}
    scene = Scene(simulate, start, hook=True, **patient)
    async with blocked(scene, "leaders", prepare_hold="blocked"):
        await _rounds(
            scene,
            lambda hold: filled(scene.gateway, "leaders", PERMITS["leaders"], GROUPS),
            lambda: filled(scene.gateway, "leaders", PERMITS["leaders"], 0),
        )
        assert scene.simulator.stats()["calls"] == 0
    await scene.nothing_leaked()


async def test_clients_that_leave_while_preparing(simulate: Simulate, start: Start) -> None:
    """The hook's call is aborted with its flight, and the leaders permit is back."""
    scene = Scene(simulate, start, hook=True, MAX_CONCURRENT_LEADERS=GROUPS)
    await _rounds(scene, lambda hold: held(scene.simulator, hold, GROUPS), scene.gone, prepare_hold="here-{}")
    all_aborted(scene.simulator.stats()["prepare"])
    assert scene.simulator.stats()["calls"] == 0
    await scene.nothing_leaked()


async def test_clients_that_submit_and_leave_are_forgotten_when_ready(
    simulate: Simulate, start: Start
) -> None:
    """A prepared request that nobody comes for expires, and the model was never asked."""
    scene = Scene(simulate, start, SUBSCRIBE_TIMEOUT_S=0.5)
    for number in range(ROUNDS):
        async with crowd(scene) as people:
            questions = [f"{number}.{client}" for client in range(3 * GROUPS)]
            await people.send([post("/chat", {"message": question}) for question in questions])
            await people.see(b'"status":"ready"')
            await people.leave()
            await scene.gone()
    assert scene.simulator.stats()["calls"] == 0
    assert scene.gateway.get("/pipeline")["totals"]["expired"] == ROUNDS * 3 * GROUPS
    await scene.nothing_leaked()


async def test_clients_that_leave_while_waiting_for_a_slot(simulate: Simulate, start: Start) -> None:
    """They ask the model for nothing, then or later."""
    scene = Scene(simulate, start, MAX_CONCURRENT_LLM_STREAMS=2)
    async with blocked(scene, "llm_streams", hold="blocked"):
        await _rounds(
            scene,
            lambda hold: filled(scene.gateway, "llm_streams", 2, GROUPS),
            lambda: filled(scene.gateway, "llm_streams", 2, 0),
        )
    await scene.gone()
    assert scene.simulator.stats()["calls"] == 2
    await scene.nothing_leaked()


async def test_clients_that_leave_before_the_first_delta(simulate: Simulate, start: Start) -> None:
    """The model has been asked and says nothing yet: its call is aborted, not waited for."""
    scene = Scene(simulate, start, MAX_CONCURRENT_LLM_STREAMS=GROUPS)
    await _rounds(scene, lambda hold: held(scene.simulator, hold, GROUPS), scene.gone, hold="here-{}")
    all_aborted(scene.simulator.stats())
    await scene.nothing_leaked()


async def test_clients_that_leave_a_live_answer(simulate: Simulate, start: Start) -> None:
    """In the middle of the text: the call is aborted when the last of its readers has gone."""
    scene = Scene(simulate, start, MAX_CONCURRENT_LLM_STREAMS=GROUPS)
    await _rounds(
        scene, lambda hold: held(scene.simulator, hold, GROUPS), scene.gone, hold="here-{}", hold_after="3"
    )
    all_aborted(scene.simulator.stats())
    await scene.nothing_leaked()


async def test_clients_that_leave_while_replaying(simulate: Simulate, start: Start) -> None:
    """Half of a cached answer is on its way to readers that do not read: leaving ends it."""
    scene = Scene(simulate, start)
    question = prompt("replay", text=saying("All work and no play. " * 1000), cut=8)
    async with Client(scene.gateway.url) as client:
        first = await client.ask(question)
    await over(scene.gateway)
    for _ in range(ROUNDS):
        async with crowd(scene) as people:
            await people.ask([question] * GROUPS)
            await people.see(b"HTTP/1.1 200 OK")
            await people.leave()
            await scene.gone()
    async with Client(scene.gateway.url) as client:
        assert (await client.ask(question)).text == first.text
    # A worker whose look-up is late asks the model itself, and knows the answer from then on.
    assert 1 <= scene.simulator.stats()["calls"] <= workers()
    await scene.nothing_leaked()


async def test_clients_that_leave_as_soon_as_they_have_asked(simulate: Simulate, start: Start) -> None:
    """At no particular moment of their admission: look-up, claim or joining."""
    scene = Scene(simulate, start, hook=True, SUBSCRIBE_TIMEOUT_S=0.5)
    for number in range(ROUNDS):
        async with crowd(scene) as people:
            questions = [prompt(f"{number}.{group}", hold="never") for group in range(GROUPS)]
            await people.send([asking(kind, question) for question in questions for kind in WIRES])
            await people.leave()
            await scene.gone()
    assert scene.simulator.stats()["completed"] == 0
    await scene.nothing_leaked()


# -- how fast -------------------------------------------------------------------------------
@pytest.mark.parametrize("hold_after", [0, 3])
async def test_the_model_is_left_the_moment_the_last_reader_is(
    simulate: Simulate, start: Start, hold_after: int
) -> None:
    """A call that nobody waits for costs money by the token: it ends within 250 ms of the last interest."""
    scene = Scene(simulate, start)
    for number, (kind, way) in enumerate((kind, way) for kind in WIRES for way in WAYS):
        hold = f"alone-{number}"
        request = await scene.request(kind, prompt("alone", hold=hold, hold_after=hold_after))
        async with wire(scene.gateway.url) as client:
            await client.send(request)
            await held(scene.simulator, hold)
            left_at = time.monotonic()
            await client.leave(way)
            await eventually(lambda: scene.simulator.stats()["in_flight"] == 0)
            assert time.monotonic() - left_at < ABORT_S
    assert scene.simulator.stats()["aborted"] == 6
    await scene.nothing_leaked()
