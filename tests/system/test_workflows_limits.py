"""Rows 21, 74, 75: whatever the pattern, the model never sees more than its limits, and all complete."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.system.client import Client
from tests.system.flows import BRANCHES, COST, INNER, every_pattern, joined
from tests.system.processes import SimulatorProcess
from tests.system.prompts import answer_to, prompt
from tests.system.scene import Simulate, Start, accepted, at_rest, filled, held, shown, together

pytestmark = pytest.mark.anyio

TOKENS = 6
CALLS, STREAMS = (sum(each) for each in zip(*COST.values(), strict=True))


@pytest.fixture
def simulator(simulate: Simulate) -> SimulatorProcess:
    return simulate(ttft=0.005, tps=0, tokens=TOKENS)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("limit", [1, 2])
async def test_every_pattern_at_once_stays_below_every_limit(
    simulator: SimulatorProcess, start: Start, tmp_path: Path, limit: int, workers: int
) -> None:
    """Rows 21, 74 and 75: all patterns, nested too, at limit 1 and 2: peaks are the limits, all complete."""
    gateway = start(
        simulator,
        workers=workers,
        WORKFLOWS=every_pattern(tmp_path),
        WORKFLOW_MODEL=INNER,
        MAX_CONCURRENT_LEADERS=limit,
        MAX_CONCURRENT_LLM_CALLS=limit,
        MAX_CONCURRENT_LLM_STREAMS=limit,
    )
    names = sorted(COST, key=lambda name: name != "fork-join")  # the widest comes first, and fills the stage
    question = prompt("All at once", hold="gate")
    async with Client(gateway.url) as client:
        chats = [await accepted(client, question, model=f"workflow:{name}") for name in names]
        await held(simulator, "gate", limit)
        simulator.release("gate")
        await together(client.until_status(chat["id"], "ready") for chat in chats)
        inside = simulator.stats()
        assert (inside["calls"], inside["peak"]) == (CALLS, limit), "calls alone: nobody listens yet"
        simulator.reset()
        async with asyncio.TaskGroup() as group:
            reading = [group.create_task(client.stream(chat["stream_url"])) for chat in chats]
            await held(simulator, "end", limit)
            await filled(gateway, "llm_streams", limit, STREAMS - limit)
            simulator.release("end")
        assert [stream.result().end.name for stream in reading] == ["done"] * len(names)
        streamed = simulator.stats()
        assert (streamed["calls"], streamed["peak"]) == (STREAMS, limit)

        simulator.reset()
        whole = await together(
            client.complete(f"Again, call and stream, {n}", model=f"workflow:{name}")
            for name in names
            for n in range(2)
        )
        assert {reply.status for reply in whole} == {200}
    seen = simulator.stats()
    assert (seen["calls"], seen["completed"]) == (2 * (CALLS + STREAMS),) * 2
    assert seen["peak"] <= 2 * limit
    await at_rest(gateway)


async def test_a_fork_is_joined_in_declared_order_at_the_limit(
    simulator: SimulatorProcess, start: Start, tmp_path: Path
) -> None:
    """Row 74: five branches with limit 2: the peak is 2, and the last prompt has all five, in their order."""
    gateway = start(
        simulator, WORKFLOWS=every_pattern(tmp_path), WORKFLOW_MODEL=INNER, MAX_CONCURRENT_LLM_CALLS=2
    )
    question = prompt("Row 74", hold="gate")
    simulator.release("end")
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        chat = await accepted(client, question, model="workflow:fork-join")
        reading = group.create_task(client.stream(chat["stream_url"]))
        await held(simulator, "gate", 2)
        await filled(gateway, "llm_calls", 2, 3)
        assert (await client.record(chat["id"]))["stage"].startswith("preparing:workflow/")
        simulator.release("gate")
        stream = await reading
        record = await shown(client, chat["id"], "completed")
    assert stream.text == answer_to(joined(question, TOKENS), TOKENS)
    steps = record["preparation"]["workflow"]["steps"]
    assert [(step["step"], step["status"]) for step in steps] == [
        *((name, "done") for name in BRANCHES),
        ("joined", "streams"),
    ]
    assert {step["model"] for step in steps[:-1]} == {INNER}
    seen = simulator.stats()
    assert (seen["calls"], seen["peak"]) == (6, 2)
    await at_rest(gateway)


async def test_identical_calls_of_two_runs_are_one(
    simulator: SimulatorProcess, start: Start, tmp_path: Path
) -> None:
    """Part 4: runs that differ in their last step alone ask the model once for each step that they share."""
    gateway = start(
        simulator,
        workers=1,
        WORKFLOWS=every_pattern(tmp_path),
        WORKFLOW_MODEL=INNER,
        MAX_CONCURRENT_LLM_CALLS=1,
    )
    question = prompt("Shared inside", hold="gate")
    simulator.release("end")
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        asking = [
            group.create_task(client.ask(question, model="workflow:fork-join", max_tokens=tokens))
            for tokens in (3, 4)
        ]
        await held(simulator, "gate", 1)
        await filled(gateway, "leaders", 2, 0)
        await filled(gateway, "llm_calls", 1, 4)
        simulator.release("gate")
        for stream, tokens in zip(asking, (3, 4), strict=True):
            assert (await stream).text == answer_to(joined(question, TOKENS), tokens)
    assert simulator.stats()["calls"] == 5 + 2
    await at_rest(gateway)
