"""What operators see of tools and workflows: each line has its request, full slots are no illness."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.fakes.eventually import eventually
from tests.system.client import Client
from tests.system.flows import INNER, every_pattern
from tests.system.processes import GatewayProcess, SimulatorProcess, fetch
from tests.system.prompts import prompt, saying
from tests.system.scene import Simulate, Start, at_rest, filled
from tests.system.workplace import TOOLS, Workplace, calling, heard

pytestmark = pytest.mark.anyio


@pytest.fixture
def simulator(simulate: Simulate) -> SimulatorProcess:
    simulator = simulate(ttft=0, tps=0, tokens=12)
    simulator.release("end")
    return simulator


@pytest.fixture
def work(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


async def test_every_line_of_a_tool_and_a_workflow_has_its_requests_id(
    simulator: SimulatorProcess, start: Start, work: Workplace, tmp_path: Path
) -> None:
    """Row 81: invoked, started and completed, once each in this order; a failure says which kind."""
    gateway = start(simulator, TOOLS=TOOLS, WORKFLOWS=every_pattern(tmp_path / "flows"), WORKFLOW_MODEL=INNER)
    tooled = calling("Row 81", work("look", "it"), work("refuse", "that"))
    async with Client(gateway.url) as client:
        by_id = {}
        for question, model in ((tooled, "refrain-sim"), ("Row 81, steps", "workflow:nested")):
            reply = await client.complete(question, model=model)
            by_id[reply.headers["x-request-id"]] = model
    assert len(by_id) == 2

    def lines(model: str) -> list[str]:
        (id,) = (id for id, asked in by_id.items() if asked == model)
        return [line["message"] for line in gateway.log if line.get("request_id") == id]

    await eventually(lambda: all("request ended" in lines(model) for model in by_id.values()))
    tools = lines("refrain-sim")
    assert sorted(tools) == sorted(
        ["tool.invoked", "tool.started"] * 2 + ["tool.completed", "tool.failed", "request ended"]
    )
    assert tools[-1] == "request ended"
    assert lines("workflow:nested") == ["workflow.ended", "request ended"]
    told = [line for line in gateway.log if line["logger"] in ("refrain.tools", "refrain.workflows")]
    assert {line.get("request_id") for line in told} == set(by_id), "no line is without"


async def test_full_slots_are_no_illness(simulator: SimulatorProcess, start: Start, work: Workplace) -> None:
    """Row 79: every tool slot and every preparation slot is held: /healthz and /readyz answer 200."""
    gateway = start(
        simulator, workers=1, TOOLS=TOOLS, MAX_CONCURRENT_TOOLS=2, MAX_CONCURRENT_LEADERS=2, QUEUE_SIZE=9
    )
    questions = [calling(f"Full {n}", work("block", f"b{n}", door="door")) for n in range(4)]
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        reading = [group.create_task(client.ask(question)) for question in questions]
        await work.filled(2)
        await filled(gateway, "leaders", 2, 2)
        for path in ("/healthz", "/readyz"):
            seen = await client.call("GET", path)
            assert (seen.status, seen.json["status"]) == (200, "ok")
        work.open("door")
        for stream in reading:
            assert (await stream).end.name == "done"
    await at_rest(gateway)


def shown(gateway: GatewayProcess) -> dict[str, str]:
    """All that operators see, by its place."""
    places = {
        path: fetch(gateway.url + path).decode() for path in ("/metrics", "/pipeline", "/pipeline/history")
    }
    return places | {"the logs": gateway.output}


async def test_no_word_of_a_question_a_tool_or_a_step_is_written_down(
    simulator: SimulatorProcess, start: Start, work: Workplace, tmp_path: Path
) -> None:
    """I5: canaries in questions, arguments, results, failures, and in what a step says: none is found."""
    gateway = start(simulator, TOOLS=TOOLS, WORKFLOWS=every_pattern(tmp_path / "flows"), WORKFLOW_MODEL=INNER)
    calls = [work("look", "canary-argument"), work("begin", "canary-half"), "canary_tool:e30", "look:bm9wZQ"]
    async with Client(gateway.url) as client:
        stream = await client.ask(calling("canary-question", *calls), user="canary-user")
        assert "canary-argument was found" in heard(stream.text)
        assert "canary-half" in stream.text
        said = prompt("canary-step", text=saying("canary-said"))
        for name in ("pipeline", "parallel", "hub-and-spoke", "publish-subscribe"):
            assert (await client.ask(said, model=f"workflow:{name}")).end.name == "done"
        await at_rest(gateway)
    found = [where for where, text in shown(gateway).items() if "canary" in text]
    assert not found, found
