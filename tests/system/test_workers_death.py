"""A worker, or the parent of all, is killed: what is restarted, given back, lost and left behind."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import Callable

import aiohttp
import psutil
import pytest

from tests.fakes.eventually import eventually
from tests.system.client import Client
from tests.system.crew import conserved, crew, gone, never_back, pinned, processes, series
from tests.system.processes import GatewayProcess, SimulatorProcess
from tests.system.prompts import answer_to, prompt
from tests.system.scene import Simulate, Start, accepted, at_rest, calls_of, filled, held

pytestmark = pytest.mark.anyio

TOKENS = 12
#: So long that nothing that is free within a test was freed by a lease.
LONG_LEASE_S = 120
#: A dead worker is noticed, buried and its slots are granted anew: tenths of a second on an idle machine.
AT_ONCE_S = 5.0


@pytest.fixture
def simulator(simulate: Simulate) -> SimulatorProcess:
    return simulate(ttft=0, tps=0, tokens=TOKENS)


async def ask_whoever_is_there(gateway: GatewayProcess, question: str) -> str:
    """The answer's text, or what became of the attempt: a killed worker cuts who talks to it."""
    try:
        async with Client(gateway.url) as client:
            stream = await client.ask(question)
            return stream.text if stream.terminals and stream.end.name == "done" else "failed"
    except (aiohttp.ClientError, AssertionError):
        return "cut"


async def scrape_until(client: Client, over: Callable[[], bool]) -> list[dict[str, float]]:
    """As often as the gateway tells, through whichever worker answers."""
    seen: list[dict[str, float]] = []
    while not over():
        try:
            reply = await client.call("GET", "/metrics")
        except aiohttp.ClientError:
            continue  # it asked the one that was killed
        seen.append(series(reply.body))
    return seen


async def replaced(gateway: GatewayProcess, number: int, pid: int) -> None:
    """Until that worker is another process."""
    await eventually(lambda: crew(gateway).get(number, pid) != pid)


async def test_a_killed_worker_is_replaced_and_no_counter_goes_back(simulate: Simulate, start: Start) -> None:
    """Row 99: under load, two kill -9: at every scrape all is conserved and nothing is less than before."""
    simulator = simulate(ttft=0, tps=200, tokens=40)
    gateway = start(simulator, workers=3, LEASE_S=LONG_LEASE_S)
    before, texts, over = crew(gateway), [], False
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        scraping = group.create_task(scrape_until(client, lambda: over))
        for number in (1, 3):
            async with pinned(gateway, [before[number]]) as (doomed,):
                holding = group.create_task(_cut_short(doomed, prompt(f"Dies with {number}", hold="gate")))
                await held(simulator, "gate")
                asked = [f"Around the death of {number}, {n}" for n in range(12)]
                load = [group.create_task(ask_whoever_is_there(gateway, question)) for question in asked]
                await eventually(lambda: simulator.stats()["in_flight"] >= 6)
                os.kill(before[number], signal.SIGKILL)
                assert await holding == "cut"
            # Only those who live accept: whoever comes now is served.
            async with Client(gateway.url) as newcomer:
                whole = await newcomer.complete(f"Others go on without {number}")
            assert whole.status == 200
            texts += [(question, await one) for question, one in zip(asked, load, strict=True)]
            await replaced(gateway, number, before[number])
        await eventually(gateway.at_rest)
        over = True
    for question, text in texts:
        assert text in (answer_to(question, 40), "cut", "failed"), "a whole answer, or an honest end"
    scrapes = scraping.result()
    for earlier, later in itertools.pairwise(scrapes):
        never_back(earlier, later)
    for scrape in scrapes:
        conserved(scrape)
    last = scrapes[-1]
    assert last["refrain_worker_restarts_total"] == 2
    assert last['refrain_permits_reclaimed_total{stage="llm_streams"}'] >= 2
    after = crew(gateway)
    assert (after.keys(), after[2]) == (before.keys(), before[2]), "who was not killed goes on"
    assert len({*after.values(), *before.values()}) == 5


async def test_what_a_killed_worker_held_is_free_at_once(simulator: SimulatorProcess, start: Start) -> None:
    """Row 99: its LLM slot goes to who waits on another worker, two minutes before its lease ends."""
    gateway = start(simulator, workers=3, MAX_CONCURRENT_LLM_STREAMS=1, LEASE_S=LONG_LEASE_S)
    workers = crew(gateway)
    async with pinned(gateway, [workers[1], workers[2]]) as (first, second), asyncio.TaskGroup() as group:
        holding = group.create_task(_cut_short(first, prompt("Holds the slot", hold="gate")))
        await held(simulator, "gate")
        waiting = group.create_task(second.ask("Waits for it"))
        await filled(gateway, "llm_streams", 1, 1)
        os.kill(workers[1], signal.SIGKILL)
        async with asyncio.timeout(AT_ONCE_S):
            assert (await waiting).text == answer_to("Waits for it", TOKENS)
            assert await holding == "cut"
    await eventually(gateway.at_rest)
    series_now = gateway.metrics()
    conserved(series_now)
    assert series_now['refrain_permits_reclaimed_total{stage="llm_streams"}'] == 1


async def _cut_short(client: Client, question: str) -> str:
    try:
        return (await client.ask(question)).text
    except aiohttp.ClientError:
        return "cut"


async def test_who_was_alone_on_a_killed_worker_gets_an_honest_end_elsewhere(
    simulator: SimulatorProcess, start: Start
) -> None:
    """Row 88: elsewhere its id says `worker_lost`, retryable, at once; asked again it is answered."""
    gateway = start(simulator, workers=2, LEASE_S=LONG_LEASE_S)
    workers = crew(gateway)
    question = prompt("Alone", hold="gate", hold_after=2)
    async with pinned(gateway, list(workers.values())) as (doomed, other):
        chat = await accepted(doomed, question)
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(_cut_stream(doomed, chat["stream_url"]))
            await held(simulator, "gate")
            os.kill(workers[1], signal.SIGKILL)
            assert await reading == "cut"
        async with asyncio.timeout(AT_ONCE_S):
            stream = await other.stream(chat["stream_url"])
        assert (stream.end.name, stream.end.json["code"]) == ("failed", "worker_lost")
        assert stream.end.json["retryable"] is True
        await other.until_status(chat["id"], "failed")
        async with asyncio.TaskGroup() as group:
            again = group.create_task(other.ask(question))
            await held(simulator, "gate")
            simulator.release("gate")
        assert again.result().text == answer_to(question, TOKENS)
    assert calls_of(simulator, question) == 2
    await eventually(gateway.at_rest)


async def _cut_stream(client: Client, url: str) -> str:
    try:
        return (await client.stream(url)).text
    except aiohttp.ClientError:
        return "cut"


async def test_a_shared_answer_outlives_its_worker(simulator: SimulatorProcess, start: Start) -> None:
    """The follower on another worker has the whole text, as the leader's client has who comes back there."""
    gateway = start(simulator, workers=2, LEASE_S=LONG_LEASE_S)
    workers = crew(gateway)
    question = prompt("Shared", hold="gate", hold_after=3)
    async with pinned(gateway, list(workers.values())) as (doomed, other), asyncio.TaskGroup() as group:
        led, followed = await accepted(doomed, question), await accepted(other, question)
        assert (led["role"], followed["role"]) == ("leader", "follower")
        leading = group.create_task(_cut_stream(doomed, led["stream_url"]))
        following = group.create_task(other.stream(followed["stream_url"]))
        await held(simulator, "gate")
        os.kill(workers[1], signal.SIGKILL)
        assert await leading == "cut"
        await eventually(lambda: calls_of(simulator, question) == 2)
        await held(simulator, "gate")
        simulator.release("gate")
        stream = await following
    assert (stream.text, stream.end.name) == (answer_to(question, TOKENS), "done")
    assert calls_of(simulator, question) == 2
    await eventually(gateway.at_rest)


async def test_a_killed_parent_leaves_no_process(start: Start) -> None:
    """Row 88: kill -9 of the parent takes its workers, its Redis and its simulated model along."""
    gateway = start(None, workers=3)
    everybody = processes(gateway)
    kinds = [" ".join(process.cmdline()) for process in everybody]
    assert sum("app.cli worker" in kind for kind in kinds) == 3
    assert sum("redis-server" in kind or "valkey-server" in kind for kind in kinds) == 1
    assert sum("app.cli sim" in kind for kind in kinds) == 1
    os.kill(gateway.pid, signal.SIGKILL)
    await asyncio.to_thread(gateway.wait)
    await eventually(lambda: gone(everybody))


async def test_a_worker_that_dies_at_every_start_does_not_spin(
    simulator: SimulatorProcess, start: Start
) -> None:
    """Killed as soon as it is there, it is started a few times in five seconds; the others serve on."""
    gateway = start(simulator, workers=3)
    before, lives = crew(gateway), set[int]()
    os.kill(before[2], signal.SIGKILL)
    loop = asyncio.get_running_loop()
    until = loop.time() + 5.0
    async with pinned(gateway, [before[1]]) as (client,):
        while loop.time() < until:
            lives |= _kill_all_but(gateway, {before[1], before[3]})
            await asyncio.sleep(0.01)
        assert (await client.ask("Is anybody there?")).end.name == "done"
    assert 2 <= len(lives) <= 8, "0.1 s, 0.2 s, 0.4 s … between them"
    await eventually(lambda: len(crew(gateway)) == 3, within=30.0)
    after = crew(gateway)
    assert (after[1], after[3]) == (before[1], before[3])
    # One that was killed before its line was open is not counted.
    assert 2 <= gateway.metrics()["refrain_worker_restarts_total"] <= 1 + len(lives)
    await at_rest(gateway)


def _kill_all_but(gateway: GatewayProcess, spared: set[int]) -> set[int]:
    """Every other worker, that is: the processes that were killed."""
    killed = set()
    for process in processes(gateway):
        try:
            if process.pid not in spared and "app.cli worker" in " ".join(process.cmdline()):
                process.kill()
                killed.add(process.pid)
        except psutil.NoSuchProcess:
            continue
    return killed
