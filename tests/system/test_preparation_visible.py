"""What whoever looks sees of preparation: on /pipeline and in a scrape, while it runs and afterwards."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.eventually import eventually
from tests.system.client import Client
from tests.system.flows import write
from tests.system.processes import GatewayProcess, SimulatorProcess, workers
from tests.system.prompts import prompt
from tests.system.scene import Simulate, Start, accepted, at_rest, held, hook_of
from tests.system.workplace import TOOLS, Workplace, calling

pytestmark = pytest.mark.anyio

FLOW = """
    name: twins
    pattern: fork_join
    branches:
      - {name: one, prompt: "Say it: {{ question }} [[sim hold=inside]]"}
      - {name: two, prompt: "Say it: {{ question }} [[sim hold=inside]]"}
      - {name: three, prompt: "Or this: {{ question }} [[sim hold=inside]]"}
    answer: {name: sum, prompt: "Sum up {{ question }}"}
    """


@pytest.fixture
def simulator(simulate: Simulate) -> SimulatorProcess:
    return simulate(ttft=0, tps=0, tokens=20)


@pytest.fixture
def work(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


def preparation(gateway: GatewayProcess) -> Any:
    return gateway.get("/pipeline")["preparation"]


def tool_of(gateway: GatewayProcess, name: str) -> dict[str, Any]:
    (found,) = (one for one in preparation(gateway)["tools"] if one["name"] == name)
    return dict(found)


def steps_of(scraped: dict[str, float], workflow: str) -> dict[tuple[str, str], float]:
    """The steps that have been counted, each with how it ended."""
    pattern = rf'refrain_workflow_steps_total{{status="(\w+)",step="([\w-]+)",workflow="{workflow}"}}'
    found = {re.fullmatch(pattern, name): value for name, value in scraped.items()}
    return {(seen[2], seen[1]): value for seen, value in found.items() if seen and value}


def warnings(gateway: GatewayProcess) -> list[tuple[str, int]]:
    full = (line for line in gateway.log if line["message"] == "a stage is nearly full")
    return [(line["stage"], line["in_use"]) for line in full]


async def test_tools_are_seen_running_waiting_and_done(
    simulator: SimulatorProcess, start: Start, work: Workplace
) -> None:
    """Rows 81 and 82: who runs, who waits, what was shared, alike on /pipeline and in a scrape."""
    gateway = start(simulator, TOOLS=TOOLS)
    names = ["a", "b", "c", "d", "e", "e"]
    question = calling("Look", *(work("narrow", name, door="door") for name in names))
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        reading = group.create_task(client.ask(question))
        await work.filled(4)
        await eventually(lambda: tool_of(gateway, "narrow")["waiting"] == 1)
        assert tool_of(gateway, "narrow") == {
            "name": "narrow", "limit": 4 * workers(), "in_use": 4, "waiting": 1, "waiting_for_rate": 0,
            "left_threads": 0, "calls": 0, "shared": 0,
        }  # fmt: skip
        seen = gateway.get("/pipeline")
        assert seen["preparation"]["steps"] == {"tools": 1}
        assert [(one["phase"], one["step"]) for one in seen["broadcasts"]] == [("preparing", "tools")]
        assert gateway.stage("tools")["in_use"] == 4
        assert gateway.metrics()['refrain_stage_in_use{stage="tools"}'] == 4
        await eventually(lambda: bool(warnings(gateway)))
        work.open("door")
        await reading
    await at_rest(gateway)
    assert warnings(gateway) == [("tool:narrow", 4)]
    narrow = tool_of(gateway, "narrow")
    assert (narrow["in_use"], narrow["waiting"], narrow["calls"], narrow["shared"]) == (0, 0, 6, 1)
    assert preparation(gateway)["steps"] == {}
    totals, scraped = gateway.get("/pipeline")["totals"], gateway.metrics()
    assert (totals["tool_calls"], totals["tool_calls_shared"]) == (6, 1)
    assert scraped['refrain_tool_calls_total{status="ok",tool="narrow"}'] == 6
    assert scraped['refrain_tool_calls_total{status="failed",tool="narrow"}'] == 0
    assert scraped['refrain_tool_calls_shared_total{tool="narrow"}'] == 1
    assert scraped['refrain_tool_seconds_count{tool="narrow"}'] == 5
    assert scraped['refrain_tool_wait_seconds_count{tool="narrow"}'] == 5
    assert scraped['refrain_tool_wait_seconds_sum{tool="narrow"}'] > 0
    admitted, released = (
        scraped[f'refrain_stage_{what}_total{{stage="tools"}}'] for what in ("admitted", "released")
    )
    assert admitted == released == 5


async def test_steps_of_a_workflow_are_seen_running_and_done(
    simulate: Simulate, start: Start, tmp_path: Path
) -> None:
    """Row 81: every step that is under way, not just the last that began; and what they cost."""
    simulator = simulate(ttft=0, tps=0, tokens=20)
    folder = write(tmp_path, "twins", FLOW)
    gateway = start(simulator, WORKFLOWS=folder, WORKFLOW_MODEL="inner")
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        reading = group.create_task(client.ask("the same", model="workflow:twins"))
        await held(simulator, "inside", 2)
        seen = gateway.get("/pipeline")
        assert seen["preparation"]["steps"] == {
            "workflow/one": 1, "workflow/two": 1, "workflow/three": 1,
        }  # fmt: skip
        assert seen["broadcasts"][0]["step"].startswith("workflow/")
        assert "tools" not in [stage["name"] for stage in seen["stages"]]
        simulator.release("inside")
        stream = await reading
    assert [step["step"] for step in stream.end.json["preparation"]["workflow"]["steps"]] == [
        "one", "two", "three", "sum",
    ]  # fmt: skip
    await at_rest(gateway)
    assert preparation(gateway) == {"steps": {}, "tools": []}
    totals, scraped = gateway.get("/pipeline")["totals"], gateway.metrics()
    assert (totals["workflow_steps"], totals["inner_calls_shared"]) == (4, 1)
    assert steps_of(scraped, "twins") == {
        ("one", "done"): 1, ("two", "done"): 1, ("three", "done"): 1, ("sum", "streams"): 1,
    }  # fmt: skip
    assert scraped['refrain_workflow_steps_total{status="failed",step="one",workflow="twins"}'] == 0
    assert scraped['refrain_workflow_calls_total{workflow="twins"}'] == 3
    for step in ("one", "two", "three"):
        assert scraped[f'refrain_workflow_step_seconds_count{{step="{step}",workflow="twins"}}'] == 1
        assert scraped[f'refrain_workflow_step_seconds_sum{{step="{step}",workflow="twins"}}'] > 0
    assert scraped["refrain_inner_calls_shared_total"] == 1


async def test_a_hook_is_a_step_too(simulator: SimulatorProcess, start: Start) -> None:
    """Two answers in preparation are two of that step, whichever workers prepare them."""
    gateway = start(simulator, PREPARE_URL=hook_of(simulator))
    async with Client(gateway.url) as client:
        for number in range(2):
            await accepted(client, prompt(f"hook {number}", prepare_hold="door"))
        await eventually(lambda: preparation(gateway)["steps"] == {"hook": 2})
        assert {one.get("step") for one in gateway.get("/pipeline")["broadcasts"]} == {"hook"}
        simulator.release("door")
        await eventually(lambda: preparation(gateway)["steps"] == {})
