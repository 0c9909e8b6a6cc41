"""Every wait ends: each timer starts with its own stage, and what it ends gives everything back."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest

from tests.fakes.eventually import eventually
from tests.system.client import Client
from tests.system.crew import crew, pinned
from tests.system.processes import ROOT, SimulatorProcess
from tests.system.prompts import answer_to, prompt
from tests.system.scene import (
    SOON_S,
    Simulate,
    Start,
    accepted,
    at_rest,
    calls_of,
    filled,
    held,
    hook_of,
    together,
)

pytestmark = pytest.mark.anyio

TOKENS = 12


@pytest.fixture
def simulator(simulate: Simulate) -> SimulatorProcess:
    return simulate(ttft=0, tps=0, tokens=TOKENS)


async def test_a_wait_for_a_leader_place_ends_with_its_own_name(
    simulator: SimulatorProcess, start: Start
) -> None:
    """Row 51: queued longer than the limit is a terminal event, a status and, on the other wire, a 429."""
    gateway = start(simulator, MAX_CONCURRENT_LEADERS=1, QUEUE_TIMEOUT_S=0.5, PREPARE_URL=hook_of(simulator))
    async with pinned(gateway, [crew(gateway)[1]] * 3) as (door, *doors), Client(gateway.url) as client:
        first = await accepted(door, prompt("First", prepare_hold="queue"))
        await filled(gateway, "leaders", 1, 0)
        chat = await accepted(door, "Second")
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(client.stream(chat["stream_url"]))
            refusals = [
                group.create_task(there.complete("Third", stream=asked))
                for there, asked in zip(doors, (False, True), strict=True)
            ]
        stream = reading.result()
        assert (stream.end.name, stream.end.json["code"]) == ("failed", "queue_timeout")
        assert (await client.record(chat["id"]))["status"] == "expired"
        for refused in (refusal.result() for refusal in refusals):
            assert (refused.status, refused.error["code"]) == (429, "queue_timeout")
            assert refused.headers["x-refrain-reason"] == "queue_timeout"
            assert int(refused.headers["retry-after"]) >= 1
        await filled(gateway, "leaders", 1, 0)
        simulator.release("queue")
        assert (await client.stream(first["stream_url"])).end.name == "done"
        await at_rest(gateway)
    assert simulator.stats()["prepare"]["calls"] == 1


async def test_a_wait_for_a_model_stream_ends_with_its_own_name(
    simulator: SimulatorProcess, start: Start
) -> None:
    """Row 51: so does the wait for a slot; the one that holds it is not disturbed."""
    gateway = start(simulator, MAX_CONCURRENT_LLM_STREAMS=1, SLOT_TIMEOUT_S=0.5)
    holding, queued = prompt("Holding", hold="slot"), prompt("Queued")
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        running = group.create_task(client.ask(holding))
        await held(simulator, "slot")
        chat = await accepted(client, queued)
        stream = await client.stream(chat["stream_url"])
        assert (stream.end.name, stream.end.json["code"]) == ("failed", "slot_timeout")
        assert (await client.record(chat["id"]))["status"] == "expired"
        late = await client.complete("Late")
        assert (late.status, late.error["code"]) == (504, "slot_timeout")
        simulator.release("slot")
    assert running.result().text == answer_to(holding, TOKENS)
    assert calls_of(simulator, queued) == 0
    await at_rest(gateway)


async def test_a_hung_upstream_ends_as_a_timeout_and_frees_its_slot(
    simulator: SimulatorProcess, start: Start
) -> None:
    """Row 52: no first token, a silence in the middle, an answer without an end: each fails by its name."""
    gateway = start(
        simulator,
        SEND_TIMEOUT_S=0.5,
        FIRST_TOKEN_TIMEOUT_S=1,
        STREAM_IDLE_TIMEOUT_S=2,
        STREAM_TIMEOUT_S=4,
    )
    cases = {
        prompt("No headers", hang=1): ("first_token_timeout", 0),
        prompt("No token", stall=0): ("first_token_timeout", 0),
        prompt("A silence", stall=3): ("stream_idle_timeout", 3),
        prompt("No end", tps=20, tokens=100_000): ("stream_timeout", None),
    }

    async def fails(client: Client, question: str, code: str, tokens: int | None) -> None:
        chat = await accepted(client, question)
        stream = await client.stream(chat["stream_url"])
        assert (stream.end.name, stream.end.json["code"]) == ("failed", code)
        record = await client.record(chat["id"])
        assert (record["status"], record["text"]) == ("failed", stream.text)
        if tokens is None:
            assert stream.text
            assert answer_to(question, 1000).startswith(stream.text)
        else:
            assert stream.text == answer_to(question, tokens)
        if not stream.text:
            whole = await client.complete(question, stream=True)
            assert (whole.status, whole.error["code"]) == (504, code)

    async with Client(gateway.url) as client:
        await together(fails(client, question, code, tokens) for question, (code, tokens) in cases.items())
        assert (await client.ask("Still here?")).end.name == "done"
        await at_rest(gateway)
    assert simulator.stats()["in_flight"] == 0


async def test_waiting_for_a_slot_is_no_part_of_the_models_time(
    simulator: SimulatorProcess, start: Start
) -> None:
    """Row 53: queued for longer than any model timer allows, an answer still has all of its time."""
    gateway = start(
        simulator,
        MAX_CONCURRENT_LLM_STREAMS=1,
        SEND_TIMEOUT_S=0.5,
        FIRST_TOKEN_TIMEOUT_S=1.5,
        STREAM_IDLE_TIMEOUT_S=50,
    )
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        group.create_task(client.ask(prompt("Holding", hold="grant", hold_after=1)))
        await held(simulator, "grant")
        waiting = group.create_task(client.ask("Waiting"))
        await eventually(lambda: gateway.stage("llm_streams")["oldest_wait_ms"] > 2000)
        simulator.release("grant")
    assert waiting.result().end.name == "done"
    assert waiting.result().end.json["timings"]["slot_wait_ms"] > 2000


async def test_waiting_for_a_leader_place_is_no_part_of_the_preparations_time(
    simulator: SimulatorProcess, start: Start
) -> None:
    """Row 53: two that time out before it in preparation take nothing from the third one's time."""
    gateway = start(simulator, MAX_CONCURRENT_LEADERS=1, PREPARE_TIMEOUT_S=2, PREPARE_URL=hook_of(simulator))
    async with pinned(gateway, [crew(gateway)[1]]) as (door,), Client(gateway.url) as client:
        stuck = [await accepted(door, prompt(word, prepare_hold="never")) for word in ("One", "Two")]
        third = await accepted(door, "Three")
        *ends, last = await together(client.stream(chat["stream_url"]) for chat in (*stuck, third))
        assert [(stream.end.name, stream.end.json["code"]) for stream in ends] == [
            ("failed", "prepare_timeout")
        ] * 2
        assert last.end.name == "done"
        assert last.end.json["timings"]["queue_ms"] >= 3900
        assert [(await client.record(chat["id"]))["status"] for chat in stuck] == ["failed"] * 2
        await at_rest(gateway)


@pytest.mark.parametrize(
    ("inner", "outer"),
    [
        ("REFRAIN_FIRST_TOKEN_TIMEOUT_S", "REFRAIN_STREAM_TIMEOUT_S"),
        ("REFRAIN_STREAM_IDLE_TIMEOUT_S", "REFRAIN_STREAM_TIMEOUT_S"),
        ("REFRAIN_SEND_TIMEOUT_S", "REFRAIN_STREAM_IDLE_TIMEOUT_S"),
    ],
)
@pytest.mark.parametrize("command", ["serve", "check"])
def test_an_inner_timer_that_outlasts_the_outer_one_stops_the_start(
    command: str, inner: str, outer: str
) -> None:
    """Row 54: such a pair would report every failure under the wrong name; equal ones too."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), inner: "50", outer: "50"}
    refused = subprocess.run(
        [sys.executable, "-m", "app.cli", command],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert f"{inner} (50) must be less than {outer} (50)." in refused.stderr
    assert "Traceback" not in refused.stderr


STAGES_OF_WAITING: dict[str, dict[str, object]] = {
    "leaders": {"MAX_CONCURRENT_LEADERS": 1},
    "llm_calls": {"MAX_CONCURRENT_LLM_CALLS": 1, "PREPARE_MODEL": "planner"},
    "llm_streams": {"MAX_CONCURRENT_LLM_STREAMS": 1},
}


@pytest.mark.parametrize("stage", STAGES_OF_WAITING)
async def test_a_cancel_ends_any_wait_and_takes_no_slot_later(
    simulator: SimulatorProcess, start: Start, stage: str
) -> None:
    """Row 76: whatever it waits for, a cancelled request ends now, and its turn never comes."""
    settings = dict(STAGES_OF_WAITING[stage])
    if stage == "leaders":
        settings["PREPARE_URL"] = hook_of(simulator)
    gateway = start(simulator, **settings)
    holding = prompt("Holding", hold="cancel", prepare_hold="cancel")
    waiting = prompt("Cancelled while it waits")
    async with (
        pinned(gateway, [crew(gateway)[1]] * 2) as (door, other),
        Client(gateway.url) as client,
        asyncio.TaskGroup() as group,
    ):
        first = group.create_task(client.stream((await accepted(door, holding))["stream_url"]))
        await filled(gateway, stage, 1, 0)
        chat = await accepted(door, waiting)
        stream = group.create_task(client.stream(chat["stream_url"]))
        whole = group.create_task(other.complete(waiting + " too"))
        await filled(gateway, stage, 1, 2)
        async with asyncio.timeout(SOON_S):
            assert (await client.cancel(chat["id"])).json["status"] == "cancelled"
            assert (await stream).end.name == "cancelled"
        whole.cancel()
        await filled(gateway, stage, 1, 0)
        simulator.release("cancel")
        assert (await first).end.name == "done"
        await at_rest(gateway)
        assert (await client.record(chat["id"]))["status"] == "cancelled"
    seen = gateway.metrics()
    assert seen[f'refrain_stage_admitted_total{{stage="{stage}"}}'] == 1
    assert simulator.stats()["prepare"]["calls"] == (1 if stage == "leaders" else 0)
    assert simulator.stats()["calls"] == (2 if stage == "llm_calls" else 1)


async def test_when_the_client_vanishes_and_the_model_hangs_everything_is_given_back(
    simulator: SimulatorProcess, start: Start
) -> None:
    """Row 55: nobody asks any more and nothing answers; all gauges fall to zero, and no janitor acted."""
    gateway = start(simulator, ABANDON_GRACE_S=0)

    async def vanish(client: Client, kind: str, where: dict[str, int]) -> None:
        question = prompt(f"Vanish {kind}", **where)
        if kind == "native":
            request = client.http.get((await accepted(client, question))["stream_url"])
        else:
            body = {"stream": kind == "streamed", "messages": [{"role": "user", "content": question}]}
            request = client.http.post("/v1/chat/completions", json=body)
        async with request as reply:
            await reply.read()

    async with Client(gateway.url) as client:
        kinds, places = ("native", "streamed", "whole"), ({"hang": 1}, {"stall": 0}, {"stall": 3})
        async with asyncio.TaskGroup() as group:
            left = [group.create_task(vanish(client, kind, where)) for kind in kinds for where in places]
            await eventually(lambda: simulator.stats()["in_flight"] == 9)
            for task in left:
                task.cancel()
    await eventually(lambda: simulator.stats()["aborted"] == 9)
    await at_rest(gateway)
    assert simulator.stats()["in_flight"] == 0
