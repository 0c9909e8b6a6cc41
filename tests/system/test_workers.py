"""`refrain serve --workers N`: several processes that look like one, whichever of them is reached."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator

import aiohttp
import psutil
import pytest

from tests.fakes.eventually import eventually
from tests.system.client import Client
from tests.system.crew import conserved, crew, gone, never_back, pinned, processes, series, stopped
from tests.system.processes import SimulatorProcess
from tests.system.prompts import answer_to, prompt, tokens_of
from tests.system.scene import SOON_S, Simulate, Start, accepted, at_rest, calls_of, held, together
from tests.system.sse import Event

pytestmark = pytest.mark.anyio

TOKENS = 12
SECRETS = {
    "OPENAI_API_KEY": "canary-upstream",
    "API_KEYS": "acme:canary-tenant",
    "ADMIN_KEY": "canary-admin",
    "PREPARE_URL": "http://127.0.0.1:9/?token=canary-hook",
}


@pytest.fixture
def simulator(simulate: Simulate) -> SimulatorProcess:
    return simulate(ttft=0, tps=0, tokens=TOKENS)


async def test_so_many_workers_serve_one_address(simulator: SimulatorProcess, start: Start) -> None:
    """WEB_CONCURRENCY is honoured and the flag wins; each worker serves; all end with the instance."""
    two, three = start(simulator, WEB_CONCURRENCY=2), start(simulator, workers=3, WEB_CONCURRENCY=2)
    for gateway, count in ((two, 2), (three, 3)):
        workers = crew(gateway)
        assert sorted(workers) == list(range(1, count + 1))
        assert len(set(workers.values())) == count
        assert set(workers.values()) <= {process.pid for process in processes(gateway)}
        assert f"{count} workers." in gateway.lines
        assert gateway.metrics()["refrain_workers"] == count
        everybody = processes(gateway)
        async with pinned(gateway, list(workers.values())) as clients:
            for number, client in enumerate(clients):
                question = f"Question {number} for {count}"
                assert (await client.ask(question)).text == answer_to(question, TOKENS)
        assert await asyncio.to_thread(gateway.stop) == 0
        assert gone(everybody)


async def test_identical_questions_to_all_workers_cost_one_call(
    simulator: SimulatorProcess, start: Start
) -> None:
    """Row 93: sixty of them, spread over the workers while the model thinks: one call, sixty equal texts."""
    gateway = start(simulator, workers=3)
    question = prompt("Everybody asks", hold="gate", hold_after=3)
    async with pinned(gateway, list(crew(gateway).values())) as clients, Client(gateway.url) as any_of:
        asked = [[await accepted(client, question) for _ in range(20)] for client in clients]
        assert [one["role"] for some in asked for one in some].count("leader") == 1
        urls = [one["stream_url"] for some in asked for one in some]
        async with asyncio.TaskGroup() as group:
            reading = [group.create_task(any_of.stream(url)) for url in urls]
            await held(simulator, "gate")
            simulator.release("gate")
    assert {stream.result().text for stream in reading} == {answer_to(question, TOKENS)}
    assert {stream.result().end.name for stream in reading} == {"done"}
    assert calls_of(simulator, question) == 1
    await at_rest(gateway)


async def deltas(events: AsyncIterator[Event], count: int) -> list[Event]:
    """The next so many pieces of text."""
    seen: list[Event] = []
    while len(seen) < count:
        event = await anext(events)
        seen += [event] if event.name == "delta" else []
    return seen


async def test_a_running_answer_is_read_resumed_and_cancelled_through_any_worker(
    simulator: SimulatorProcess, start: Start
) -> None:
    """Rows 89, 94: admitted by one worker, shown and cancelled by the second, resumed by the third."""
    gateway = start(simulator, workers=3)
    question = prompt("Wherever", hold="gate", hold_after=7)
    async with pinned(gateway, list(crew(gateway).values())) as (first, second, third):
        chat = await accepted(first, question)
        async with asyncio.timeout(20), first.listening(chat["stream_url"]) as (_, events, _):
            seen = await deltas(events, 4)
            resuming = third.listening(chat["stream_url"], last_event_id=seen[-1].id)
            async with resuming as (_, elsewhere, _):
                rest = await deltas(elsewhere, 3)
                shown = await second.record(chat["id"])
                assert (shown["status"], shown["role"]) == ("streaming", "leader")
                assert (await second.cancel(chat["id"])).status == 200
                for stream in (events, elsewhere):
                    *_, last = [event async for event in stream]
                    assert last.name == "cancelled"
        text = "".join(tokens_of(question, 7))
        assert "".join(event.json["text"] for event in seen + rest) == text, "exactly the rest"
        for client in (first, second, third):
            assert (await client.record(chat["id"]))["status"] == "cancelled"
        assert (await second.cancel(chat["id"])).status == 200, "a repeat changes nothing"
    await eventually(lambda: simulator.stats()["in_flight"] == 0)
    await at_rest(gateway)


@pytest.mark.parametrize("asked_by", ["the worker that answered", "another one"])
async def test_a_hit_is_read_through_any_worker(
    simulator: SimulatorProcess, start: Start, asked_by: str
) -> None:
    """Rows 9, 89: a cached answer is found by its id everywhere at once, not only where it was admitted."""
    gateway = start(simulator, workers=3)
    async with pinned(gateway, list(crew(gateway).values())) as clients:
        text = (await clients[0].ask("Known by now")).text
        asking = clients[0] if asked_by == "the worker that answered" else clients[1]
        async with asyncio.timeout(SOON_S):  # elsewhere it may still be followed for a moment
            while (again := await accepted(asking, "Known by now"))["role"] != "cached":
                continue
        async with asyncio.timeout(SOON_S):
            streams = [await client.stream(again["stream_url"]) for client in clients]
        assert [(stream.status, stream.text) for stream in streams] == [(200, text)] * 3
        assert [stream.end.json["cache"] for stream in streams] == ["hit"] * 3
        for client in clients:
            record = await client.record(again["id"])
            assert (record["status"], record["role"], record["text"]) == ("completed", "cached", text)
    assert simulator.stats()["calls"] == 1


async def test_metrics_and_pipeline_speak_for_all_whoever_answers(
    simulator: SimulatorProcess, start: Start
) -> None:
    """Each worker shows the whole, each is visible by itself, and the parts add up to the whole."""
    gateway = start(simulator, workers=3, MAX_CONCURRENT_LLM_STREAMS=5, MAX_CONCURRENT_LEADERS=2)
    async with pinned(gateway, list(crew(gateway).values())) as clients:
        for number, client in enumerate(clients):
            for again in range(number + 1):
                await client.ask(f"Of {number}, the {again}.")
        await at_rest(gateway)
        shown = [(await client.call("GET", "/pipeline")).json for client in clients]
        wholes = [series((await client.call("GET", "/metrics")).body) for client in clients]
        parts = [series((await clients[0].call("GET", f"/metrics?worker={n}")).body) for n in (1, 2, 3)]
    for seen in shown:
        assert sorted(one["totals"]["completed"] for one in seen["workers"]) == [1, 2, 3]
        assert (seen["totals"]["completed"], seen["totals"]["upstream_calls"]) == (6, 6)
        scopes = {stage["name"]: (stage["scope"], stage["capacity"]) for stage in seen["stages"]}
        assert (scopes["leaders"], scopes["llm_streams"]) == (("process", 6), ("shared", 5))
    answered = 'refrain_upstream_calls_total{outcome="completed"}'
    assert [whole[answered] for whole in wholes] == [6, 6, 6]
    assert sorted(part[answered] for part in parts) == [1, 2, 3]
    for whole in wholes:
        conserved(whole)
        assert whole["refrain_worker_restarts_total"] == 0


async def test_a_worker_that_stands_still_is_shown_so_and_holds_nobody_up(
    simulator: SimulatorProcess, start: Start
) -> None:
    """A frozen worker is `stale`, its last numbers still count, and a scrape takes less than a second."""
    gateway = start(simulator, workers=3)
    workers = crew(gateway)
    async with pinned(gateway, [workers[1], workers[2]]) as (frozen, alive):
        await frozen.ask("Asked before")
        before = series((await alive.call("GET", "/metrics")).body)
        with stopped(workers[1]):
            async with asyncio.timeout(1.0):
                now = series((await alive.call("GET", "/metrics")).body)
            seen = (await alive.call("GET", "/pipeline")).json
            assert {one["worker"]: one["stale"] for one in seen["workers"]} == {1: True, 2: False, 3: False}
            assert now["refrain_workers"] == 2
            assert never_back(before, now)
            conserved(now)
            assert (await alive.ask("Asked meanwhile")).end.name == "done"
        await eventually(lambda: len(crew(gateway)) == 3)
        assert (await frozen.ask("Asked after")).end.name == "done"
        assert gateway.metrics()["refrain_worker_restarts_total"] == 0, "it was only slow"


def test_no_secret_stands_in_a_command_line(start: Start, simulator: SimulatorProcess) -> None:
    """Row 77: anybody on the machine can read /proc/<pid>/cmdline, of each process of the instance."""
    gateway = start(simulator, workers=2, **SECRETS)
    everybody = [psutil.Process(gateway.pid), *processes(gateway)]
    lines = [" ".join(process.cmdline()) for process in everybody]
    assert sum("app.cli worker" in line for line in lines) == 2
    assert not [line for line in lines if "canary" in line]
    assert "canary" not in gateway.output
    assert gateway.stop() == 0


@pytest.mark.parametrize("signals", [1, 2])
async def test_a_drain_finishes_the_streams_of_all_workers(
    simulator: SimulatorProcess, start: Start, signals: int
) -> None:
    """Row 87: SIGTERM to the parent, once or twice: each worker serves what it runs; then all end, with 0."""
    gateway = start(simulator, workers=3)
    everybody = processes(gateway)
    async with pinned(gateway, list(crew(gateway).values())) as clients, asyncio.TaskGroup() as group:
        questions = [prompt(f"Running {n}", hold="drain", hold_after=3) for n in range(3)]
        reading = [group.create_task(client.ask(q)) for client, q in zip(clients, questions, strict=True)]
        await held(simulator, "drain", 3)
        async with pinned(gateway, list(crew(gateway).values())) as others:
            for _ in range(signals):
                gateway.signal(signal.SIGTERM)
                await together(until_draining(client) for client in others)
            refused = [await client.submit("Too late") for client in others]
        assert {(reply.status, reply.error["code"]) for reply in refused} == {(503, "draining")}
        assert gateway.popen.poll() is None
        simulator.release("drain")
    assert [read.result().text for read in reading] == [answer_to(q, TOKENS) for q in questions]
    assert {read.result().end.name for read in reading} == {"done"}
    assert await asyncio.to_thread(gateway.wait) == 0
    assert gone(everybody)


async def test_a_second_interrupt_ends_all_workers_at_once(start: Start) -> None:
    """Row 87: the first Ctrl-C drains; after the second nobody waits for what runs, and nothing is left."""
    gateway = start(None, workers=3, DRAIN_TIMEOUT_S=300)
    everybody = processes(gateway)
    question = prompt("Endless", stall=4, ttft=0, tps=0)
    async with pinned(gateway, list(crew(gateway).values())) as clients:
        chat = await accepted(clients[0], question)
        async with clients[0].listening(chat["stream_url"]) as (_, events, _):
            await deltas(events, 1)
            gateway.signal(signal.SIGINT)
            await until_draining(clients[1])
            assert gateway.popen.poll() is None
            gateway.signal(signal.SIGINT)
            assert await asyncio.to_thread(gateway.wait, 10.0) == 0
    assert gone(everybody)


async def until_draining(client: Client) -> None:
    """Until its worker says so; a worker that runs nothing may have ended by then."""

    async def red() -> bool:
        try:
            return (await client.call("GET", "/readyz")).status == 503
        except (aiohttp.ClientError, AssertionError):
            return True

    await eventually(red)
