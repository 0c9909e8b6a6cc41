"""The last step of a workflow streams, and has tries, a second choice, a time and tools like any other."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.fakes.eventually import eventually
from tests.system.client import Client
from tests.system.flows import INNER, write
from tests.system.processes import SimulatorProcess
from tests.system.prompts import answer_to, prompt
from tests.system.scene import Simulate, Start, at_rest, calls_of, over
from tests.system.workplace import TOOLS, Workplace, calling, heard

pytestmark = pytest.mark.anyio

TOKENS = 6
WORKFLOW = "workflow:flow"


@pytest.fixture
def simulator(simulate: Simulate) -> SimulatorProcess:
    return simulate(ttft=0, tps=0, tokens=TOKENS)


def flow(folder: Path, last: str, prompt: str = "{{ question }}") -> Path:
    """A step, and after it the last one, which has the fields `last`."""
    text = f"""
        name: flow
        steps:
          - {{name: first, prompt: "First"}}
          - {{name: last, depends_on: [first], prompt: "{prompt}", {last}}}
        """
    return write(folder, "flow", text)


async def test_a_second_choice_streams_when_the_first_says_nothing(
    simulator: SimulatorProcess, start: Start, tmp_path: Path
) -> None:
    """Part 4: the first model hangs beyond the step's timeout; the reader sees one answer, by the other."""
    folder = flow(
        tmp_path, "timeout_s: 0.3, fallback: second", prompt="{{ question }} [[sim hold=never times=1]]"
    )
    gateway = start(simulator, WORKFLOWS=folder, WORKFLOW_MODEL=INNER, MAX_CONCURRENT_LLM_STREAMS=1)
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        reading = group.create_task(client.ask("Second", model=WORKFLOW))
        await eventually(lambda: simulator.stats()["calls_by_model"].get("second") == 1)
        simulator.release("never")
        stream = await reading
        await over(gateway)
        again = await client.ask("Second", model=WORKFLOW)
    last = stream.end.json["preparation"]["workflow"]["steps"][-1]
    assert (last["status"], last["model"], last["fallback"]) == ("streams", "second", True)
    assert last["why"] == "answered by the fallback: stream_timeout"
    assert stream.text == answer_to("Second [[sim hold=never times=1]]", TOKENS)
    assert again.end.json["cache"] == "miss", "the next request may get the first choice"
    assert gateway.metrics()['refrain_workflow_fallbacks_total{workflow="flow"}'] == 1
    assert (simulator.stats()["aborted"], simulator.stats()["peak"]) == (1, 1)
    await at_rest(gateway)


async def test_it_is_tried_again_before_its_first_word(
    simulator: SimulatorProcess, start: Start, tmp_path: Path
) -> None:
    """Part 4: a try that takes too long is followed by another with the same model, and that is kept."""
    folder = flow(tmp_path, "timeout_s: 0.3, retries: 1", prompt="{{ question }} [[sim hold=never times=1]]")
    gateway = start(simulator, WORKFLOWS=folder, WORKFLOW_MODEL=INNER)
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        reading = group.create_task(client.ask("Again", model=WORKFLOW))
        await eventually(lambda: simulator.stats()["calls"] == 3)
        simulator.release("never")
        stream = await reading
        await over(gateway)
        again = await client.ask("Again", model=WORKFLOW)
    assert (stream.end.name, again.end.json["cache"]) == ("done", "hit")
    assert "fallback" not in stream.end.json["preparation"]["workflow"]["steps"][-1]
    await at_rest(gateway)


async def test_a_try_that_has_begun_to_speak_ends_with_its_time(
    simulator: SimulatorProcess, start: Start, tmp_path: Path
) -> None:
    """Part 4: two answers are never spliced: what was said stays, the end says why, nothing is kept."""
    folder = flow(tmp_path, "timeout_s: 0.5, retries: 3, fallback: second")
    gateway = start(simulator, WORKFLOWS=folder, WORKFLOW_MODEL=INNER)
    question = prompt("Slow", hold="slow", hold_after=2)
    async with Client(gateway.url) as client:
        stream = await client.ask(question, model=WORKFLOW)
    assert (stream.end.name, stream.end.json["code"]) == ("failed", "stream_timeout")
    assert stream.text == "".join(answer_to(question, 2))
    assert simulator.stats()["calls_by_model"] == {INNER: 2}
    await at_rest(gateway)


async def test_its_tools_run_and_the_answer_comes_of_them(
    simulator: SimulatorProcess, start: Start, tmp_path: Path
) -> None:
    """Part 4: its rounds are under `llm_calls`; what the model says at their end is not asked for again."""
    work = Workplace(tmp_path)
    folder = flow(tmp_path / "flows", "tools: [look]")
    gateway = start(
        simulator, WORKFLOWS=folder, WORKFLOW_MODEL=INNER, TOOLS=TOOLS, MAX_CONCURRENT_LLM_CALLS=1
    )
    question = calling("Seek", work("look", "it"))
    async with Client(gateway.url) as client:
        stream = await client.ask(question, model=WORKFLOW)
        made = stream.end.json["preparation"]
        assert [(one["tool"], one["status"]) for one in made["tools"]] == [("look", "ok")]
        last = made["workflow"]["steps"][-1]
        assert (last["status"], last["calls"], last["completion_tokens"] > 0) == ("done", 2, True)
        assert len(heard(stream.text)) == 1
        assert work.begun == ["it"]
        assert (simulator.stats()["calls"], simulator.stats()["peak"]) == (3, 1)
        whole = await client.complete(question, model=WORKFLOW, n=2, temperature=0)
        assert len(whole.json["choices"]) == 2, "a form that was asked for is asked for"
        assert whole.json["refrain"]["workflow"]["steps"][-1]["status"] == "streams"
        assert [one["tool"] for one in whole.json["refrain"]["tools"]] == ["look"], "a plain answer has both"
    await at_rest(gateway)


async def test_a_client_with_tools_of_its_own_gets_those(
    simulator: SimulatorProcess, start: Start, tmp_path: Path
) -> None:
    """Part 3: they are passed through untouched; the step's own are not mixed with them."""
    folder = flow(tmp_path / "flows", "tools: [look]")
    gateway = start(simulator, WORKFLOWS=folder, WORKFLOW_MODEL=INNER, TOOLS=TOOLS)
    tools = [{"type": "function", "function": {"name": "mine", "parameters": {"type": "object"}}}]
    async with Client(gateway.url) as client:
        whole = await client.complete("Use mine", model=WORKFLOW, tools=tools, tool_choice="none")
    assert whole.json["refrain"]["workflow"]["steps"][-1]["status"] == "streams"
    assert "tools" not in whole.json["refrain"]
    assert calls_of(simulator, "Use mine") == 1
    await at_rest(gateway)
