"""The door to the model, seen from the model's side: its connections, its retries, its odd habits."""

from __future__ import annotations

import asyncio
import math

import psutil
import pytest

from tests.fakes.eventually import eventually
from tests.system.client import Client, text_of
from tests.system.processes import SimulatorProcess, workers
from tests.system.prompts import answer_to, prompt, saying
from tests.system.scene import Simulate, Start, at_rest, calls_of, filled, held, together

pytestmark = pytest.mark.anyio

TOKENS = 12
PROCESSES = workers()
#: Text that looks like a repetition of itself: a guess would take it for a cumulative stream.
REPETITIVE = "ha ha ha haha hahaha ha ha ha ha"


@pytest.fixture
def simulator(simulate: Simulate) -> SimulatorProcess:
    return simulate(ttft=0, tps=0, tokens=TOKENS)


@pytest.mark.parametrize("cut", [1, 3, 6])
async def test_a_cumulative_upstream_yields_only_its_growth(
    simulator: SimulatorProcess, start: Start, cut: int
) -> None:
    """Row 73: with the switch set, every reader gets each piece once, on both wires and from the cache."""
    gateway = start(simulator, UPSTREAM_CUMULATIVE=1)
    question = prompt("Repeat", text=saying(REPETITIVE), cut=cut, cumulative=1)
    pieces = [REPETITIVE[at : at + cut] for at in range(0, len(REPETITIVE), cut)]
    async with Client(gateway.url) as client:
        for _ in ("live", "cached"):
            stream = await client.ask(question)
            assert [event.json["text"] for event in stream.events if event.name == "delta"] == pieces
            _, frames = await client.chunks(question)
            assert text_of(frames) == REPETITIVE
        whole = (await client.complete(question)).json
        assert whole["choices"][0]["message"]["content"] == REPETITIVE


@pytest.mark.parametrize("cut", [1, 3, 6])
async def test_text_that_repeats_itself_is_untouched_without_the_switch(
    simulator: SimulatorProcess, start: Start, cut: int
) -> None:
    """Row 73: cumulative streams are never guessed, or "ha ha" would become "ha "."""
    gateway = start(simulator)
    async with Client(gateway.url) as client:
        stream = await client.ask(prompt("Laugh", text=saying(REPETITIVE), cut=cut))
        assert stream.text == REPETITIVE
        told = await client.ask(prompt("Tell", text=saying("ab"), cut=1, cumulative=1))
        assert told.text == "aab", "what the upstream said, without a guess"


def connections_to(simulator: SimulatorProcess) -> int:
    """The simulated model's open connections, as the kernel has them."""
    found = psutil.Process(simulator.pid).net_connections(kind="tcp")
    return sum(connection.status == psutil.CONN_ESTABLISHED for connection in found)


async def test_two_hundred_requests_use_no_more_connections_than_the_pool_has(
    simulator: SimulatorProcess, start: Start
) -> None:
    """Row 90: connections are kept and used again, and all of them are closed at the end."""
    gateway = start(simulator, MAX_CONCURRENT_LLM_STREAMS=5, MAX_CONCURRENT_LLM_CALLS=1)
    questions = [prompt(f"Question {number}", hold="pool") for number in range(200)]
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        asked = group.create_task(
            together(
                client.complete(question, stream=number % 2 == 0) for number, question in enumerate(questions)
            )
        )
        await held(simulator, "pool", 5)
        simulator.release("pool")
    assert {reply.status for reply in asked.result()} == {200}
    stats = simulator.stats()
    assert (stats["calls"], stats["peak"]) == (200, 5)
    pool = (5 + 1 + 4) * PROCESSES
    assert 5 <= stats["connections"] <= pool
    assert 1 <= connections_to(simulator) <= pool
    await at_rest(gateway)
    assert gateway.stop() == 0
    await eventually(lambda: connections_to(simulator) == 0)


async def test_a_passing_failure_is_repeated_without_the_clients_notice(
    simulator: SimulatorProcess, start: Start
) -> None:
    """Part 8: what fails before its first token is asked again, at most three times in all."""
    gateway = start(simulator)
    async with Client(gateway.url) as client:
        for status in (502, 503, 504):
            question = prompt("Stumble", status=status, times=2)
            stream = await client.ask(question)
            assert stream.text == answer_to(question, TOKENS)
            assert stream.end.json["cache"] == "miss"
            assert calls_of(simulator, question) == 3
        hopeless = prompt("Fall", status=503)
        failed = await client.ask(hopeless)
        assert failed.end.json["retryable"] is True
        assert calls_of(simulator, hopeless) == 3
        refused = prompt("Never", status=400)
        assert (await client.complete(refused)).status == 400
        assert calls_of(simulator, refused) == 1
        await at_rest(gateway)


async def test_retries_stay_within_ten_percent_of_the_calls_plus_ten(
    simulator: SimulatorProcess, start: Start
) -> None:
    """Part 8: when everything fails at once, retries must not double the load; 100 calls earn 20 of them.

    Each process has a budget of its own.
    """
    gateway = start(simulator, MAX_CONCURRENT_LLM_STREAMS=100)
    questions = [prompt(f"All at once {number}", hold="budget", status=503, times=1) for number in range(100)]
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        asked = group.create_task(together(client.complete(question) for question in questions))
        await held(simulator, "budget", 100)
        simulator.release("budget")
    replies = asked.result()
    asked_of = [one["totals"]["requests"] for one in gateway.get("/pipeline")["workers"]]
    earned = sum(min(calls, 10 + math.ceil(calls / 10)) for calls in asked_of)
    assert (len(asked_of), sum(asked_of)) == (PROCESSES, 100)
    assert sum(reply.status == 200 for reply in replies) == earned
    assert PROCESSES > 1 or earned == 20
    assert {reply.error["code"] for reply in replies if reply.status != 200} == {"upstream_error"}
    assert simulator.stats()["calls"] == 100 + earned
    await at_rest(gateway)


async def test_a_slot_is_not_held_while_a_failed_call_waits_for_its_next_try(
    simulator: SimulatorProcess, start: Start
) -> None:
    """Part 8: a back-off is somebody else's turn; the retry keeps its age."""
    gateway = start(simulator, MAX_CONCURRENT_LLM_STREAMS=1)
    stumbling = prompt("Stumbling", hold="stumble", status=503, times=1, retry_after=1)
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        first = group.create_task(client.ask(stumbling))
        await held(simulator, "stumble")
        second = group.create_task(client.ask(prompt("Next", hold="next")))
        await filled(gateway, "llm_streams", 1, 1)
        simulator.release("stumble")
        await held(simulator, "next")
        await eventually(lambda: gateway.stage("llm_streams")["waiting"] == 1)
        assert calls_of(simulator, stumbling) == 1
        simulator.release("next")
    assert first.result().text == answer_to(stumbling, TOKENS)
    assert second.result().end.name == "done"
    assert simulator.stats()["peak"] == 1
    await at_rest(gateway)
