"""What bounds the preparation as a whole: its time, whatever a tool does, and what a start refuses."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.fakes.eventually import eventually
from tests.system.client import Client
from tests.system.crew import crew, pinned
from tests.system.flows import INNER, every_pattern, write
from tests.system.processes import SimulatorProcess, workers
from tests.system.prompts import prompt
from tests.system.scene import Simulate, Start, accepted, at_rest, filled, together
from tests.system.test_operation import refrain
from tests.system.workplace import SHORT, TOOLS, Workplace, calling, heard

pytestmark = pytest.mark.anyio


@pytest.fixture
def simulator(simulate: Simulate) -> SimulatorProcess:
    return simulate(ttft=0, tps=0, tokens=12)


@pytest.fixture
def work(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


async def test_a_preparation_that_takes_too_long_ends_with_all_that_it_has_begun(
    simulator: SimulatorProcess, start: Start, work: Workplace, tmp_path: Path
) -> None:
    """Row 71, parts 3 and 4: PREPARE_TIMEOUT ends tools that run and wait, and a workflow's calls; 504."""
    gateway = start(
        simulator,
        TOOLS=SHORT,
        WORKFLOWS=every_pattern(tmp_path / "flows"),
        WORKFLOW_MODEL=INNER,
        PREPARE_TIMEOUT_S=1.2,
    )
    many = calling("Too many", *(work("single", f"s{number}", door="never") for number in range(4)))
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        flow = group.create_task(client.complete(prompt("Hangs", hold="gate"), model="workflow:fork-join"))
        stream = await client.ask(many)
        reply = await flow
    assert (stream.end.name, stream.end.json["code"]) == ("failed", "prepare_timeout")
    assert (reply.status, reply.error["code"]) == (504, "prepare_timeout")
    assert work.begun == work.ended == ["s0", "s1"], "the others have waited, and never begin"
    await eventually(lambda: simulator.stats()["aborted"] == 5)
    await at_rest(gateway)


async def test_a_tool_that_ignores_its_end_keeps_no_permit_of_a_request(
    simulator: SimulatorProcess, start: Start, work: Workplace
) -> None:
    """Part 3: whoever has called it gets an end, and the only place for preparation is free for others."""
    gateway = start(
        simulator,
        workers=1,
        TOOLS=SHORT,
        PREPARE_TIMEOUT_S=1,
        MAX_CONCURRENT_LEADERS=1,
        ABANDON_GRACE_S=0,
    )
    async with Client(gateway.url) as client:
        stream = await client.ask(calling("Deaf", work("ignore", "deaf")))
        assert (stream.end.name, stream.end.json["code"]) == ("failed", "prepare_timeout")
        other = await client.ask(calling("Next", work("look", "it")))
        assert heard(other.text) == ["it was found"]

        chat = await accepted(client, calling("Deaf again", work("ignore", "deaf-too")))
        await work.filled(2)
        assert (await client.cancel(chat["id"])).json["status"] == "cancelled"
        await filled(gateway, "leaders", 0, 0)
    assert any(line["message"] == "work goes on after its cancel" for line in gateway.log)


@pytest.mark.parametrize("limit", [1, 2])
async def test_rounds_of_tools_stay_below_every_limit(
    simulator: SimulatorProcess, start: Start, work: Workplace, limit: int
) -> None:
    """Rows 21 and 75: choosing calls, tools and answers of eight at limit 1 and 2: all come to an end."""
    gateway = start(
        simulator,
        TOOLS=TOOLS,
        TOOL_ROUNDS=1,
        MAX_CONCURRENT_LEADERS=limit,
        MAX_CONCURRENT_TOOLS=limit,
        MAX_CONCURRENT_LLM_CALLS=limit,
        MAX_CONCURRENT_LLM_STREAMS=limit,
    )
    questions = [calling(f"Burst {n}", work("look", f"b{n}"), work("block", f"c{n}")) for n in range(8)]
    async with Client(gateway.url) as client:
        streams = await together(client.ask(question) for question in questions)
    assert [heard(stream.text) for stream in streams] == [
        [f"b{n} was found", f"c{n} was dug out"] for n in range(8)
    ]
    seen = simulator.stats()
    assert (seen["calls"], seen["completed"]) == (16, 16), "one that chooses and one that streams, for each"
    assert seen["peak"] <= 2 * limit
    assert work.peak <= limit * workers(), "the slots of tools are each process's own"
    await at_rest(gateway)


async def test_a_killed_worker_leaves_its_tools_to_another(
    simulator: SimulatorProcess, start: Start, work: Workplace
) -> None:
    """Rows 71 and 99: kill -9 while a tool runs: who waits on the other worker gets the answer from there."""
    gateway = start(simulator, workers=2, TOOLS=TOOLS, LEASE_S=120)
    pids = crew(gateway)
    question = calling("Taken over", work("look", "it", door="door"))
    async with pinned(gateway, list(pids.values())) as (doomed, other), asyncio.TaskGroup() as group:
        assert (await accepted(doomed, question))["role"] == "leader"
        followed = await accepted(other, question)
        following = group.create_task(other.stream(followed["stream_url"]))
        await work.filled(1)
        os.kill(pids[1], signal.SIGKILL)
        await eventually(lambda: work.begun == ["it"] * 2)
        work.open("door")
        stream = await following
    assert (stream.end.name, heard(stream.text)) == ("done", ["it was found"])
    await eventually(gateway.at_rest)


@pytest.mark.parametrize("command", ["check", "serve"])
def test_files_that_cannot_be_meant_refuse_the_start(tmp_path: Path, command: str) -> None:
    """Rows 77 and 102, part 4: every fault with its file and line, in one go; exit 2, no stack."""
    steps = "  - {name: a, prompt: '{{ nobody }}'}\n  - {name: b, prompt: x, depends_on: [c]}\n"
    bad = f"name: bad\nsteps:\n{steps}"
    tools = tmp_path / "tools.yaml"
    tools.write_text("tools:\n  - name: t\n    description: d\n    url: ftp://host/\n    cacheable: true\n")
    folder = write(tmp_path / "flows", "bad", bad)
    arguments = [command, "--port", "0"] if command == "serve" else [command]
    flows = refrain(*arguments, REFRAIN_WORKFLOWS=str(folder), REFRAIN_WORKFLOW_MODEL=INNER)
    assert flows.returncode == 2
    assert "REFRAIN_WORKFLOWS: bad.yaml:3: " in flows.stderr
    assert "REFRAIN_WORKFLOWS: bad.yaml:4: " in flows.stderr
    others = refrain(
        *arguments, REFRAIN_TOOLS_FILE=str(tools), REFRAIN_TOOLS="nowhere:TOOLS", REFRAIN_TOOL_ROUNDS="0"
    )
    assert others.returncode == 2
    assert "REFRAIN_TOOL_ROUNDS" in others.stderr
    both = refrain(*arguments, REFRAIN_TOOLS_FILE=str(tools), REFRAIN_TOOLS="nowhere:TOOLS")
    assert both.returncode == 2
    assert "REFRAIN_TOOLS_FILE: tools.yaml:4: " in both.stderr
    assert "REFRAIN_TOOLS: nowhere cannot be imported" in both.stderr
    assert "Traceback" not in flows.stderr + others.stderr + both.stderr
