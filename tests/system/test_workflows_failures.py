"""Workflows that go wrong: every failure has its place in the record, and what can be answered is."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.fakes.eventually import eventually
from tests.system.client import Client
from tests.system.crew import crew, pinned
from tests.system.flows import BRANCHES, INNER, every_pattern, joined, write
from tests.system.processes import SimulatorProcess
from tests.system.prompts import answer_to, prompt, saying
from tests.system.scene import Simulate, Start, accepted, at_rest, held, over, shown

pytestmark = pytest.mark.anyio

TOKENS = 6
#: A file whose steps do what their directives say; the last one repeats what is missing.
FLOW = """
    name: flow
    limits: {{calls: {calls}}}
    steps:
      - {{name: good, prompt: "Good: {{{{ question }}}}"}}
      - {{name: bad, prompt: "Bad: {{{{ question }}}} [[sim {bad}]]", {more}}}
      - {{name: after, depends_on: [bad], prompt: "After: {{{{ question }}}}"}}
      - name: last
        depends_on: [good, after]
        prompt: "{{{{ results.after }}}} {{{{ missing | length }}}}"
    """


@pytest.fixture
def simulator(simulate: Simulate) -> SimulatorProcess:
    simulator = simulate(ttft=0, tps=0, tokens=TOKENS)
    simulator.release("end")
    return simulator


def flow(folder: Path, bad: str, more: str = "retries: 0", calls: int = 50) -> Path:
    return write(folder, "flow", FLOW.format(bad=bad, more=more, calls=calls))


async def test_a_fatal_step_ends_the_flight_and_says_what_ran(
    simulator: SimulatorProcess, start: Start, tmp_path: Path
) -> None:
    """Part 4: 502 `prepare_failed` with every step in order, on both wires; what still runs is given up."""
    slow = flow(tmp_path, "status=400 hold=bad", "fatal: true")
    write(slow, "flow", (slow / "flow.yaml").read_text().replace("Good:", "Good [[sim hold=good]]:"))
    gateway = start(simulator, WORKFLOWS=slow, WORKFLOW_MODEL=INNER)
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        chat = await accepted(client, "Fatal", model="workflow:flow")
        reading = group.create_task(client.stream(chat["stream_url"]))
        whole = group.create_task(client.complete("Fatal", model="workflow:flow"))
        await held(simulator, "good")
        await held(simulator, "bad")
        simulator.release("bad")
        failed, reply = (await reading).end, await whole
        await shown(client, chat["id"], "failed")
        await eventually(lambda: simulator.stats()["aborted"] == 1)
    assert (failed.name, failed.json["code"], reply.status) == ("failed", "prepare_failed", 502)
    for message in (failed.json["message"], reply.error["message"]):
        places = [
            message.index(name) for name in ("good skipped", "bad failed", "after skipped", "last skipped")
        ]
        assert places == sorted(places), message
        assert "'bad'" in message
    assert simulator.stats()["calls"] == 2
    ended = [line for line in gateway.log if line["message"] == "workflow.ended"]
    assert [step["status"] for step in ended[0]["steps"]] == ["skipped", "failed", "skipped", "skipped"]
    await at_rest(gateway)


async def test_a_gap_is_told_and_never_kept(
    simulator: SimulatorProcess, start: Start, tmp_path: Path
) -> None:
    """Part 4: a step fails, who needs it alone is skipped, the answer says so and is not in the cache."""
    gateway = start(simulator, WORKFLOWS=flow(tmp_path, "status=400"), WORKFLOW_MODEL=INNER)
    async with Client(gateway.url) as client:
        stream = await client.ask("A gap", model="workflow:flow")
        await over(gateway)
        again = await client.ask("A gap", model="workflow:flow")
    steps = stream.end.json["preparation"]["workflow"]["steps"]
    assert [step["status"] for step in steps] == ["done", "failed", "skipped", "streams"]
    assert all(step["why"] for step in steps[1:3]), steps
    gap = "[missing: after: nothing that it needs is there] 2"
    assert stream.text == answer_to(gap, TOKENS), "what the last step is asked names the gap"
    assert (stream.end.json["cache"], again.end.json["cache"]) == ("miss", "miss")
    await at_rest(gateway)


async def test_an_answer_cut_three_times_fails_its_step(
    simulator: SimulatorProcess, start: Start, tmp_path: Path
) -> None:
    """Part 4: three answers in a row that the token limit cuts: three calls, one clear reason, no fourth."""
    folder = flow(tmp_path, "tokens=99", "fatal: true, retries: 2, parameters: {max_tokens: 3}")
    gateway = start(simulator, WORKFLOWS=folder, WORKFLOW_MODEL=INNER)
    async with Client(gateway.url) as client:
        stream = await client.ask("Endless", model="workflow:flow")
    assert stream.end.json["code"] == "prepare_failed"
    assert "cut by the token limit 3 times in a row" in stream.end.json["message"]
    assert simulator.stats()["calls"] == 3 + 1
    await at_rest(gateway)


async def test_the_calls_of_a_run_are_bounded(
    simulator: SimulatorProcess, start: Start, tmp_path: Path
) -> None:
    """Part 4: retries, fallback and continuations count: beyond the bound no call is made; that is final."""
    folder = flow(tmp_path, "status=500", "retries: 5", calls=4)
    gateway = start(simulator, WORKFLOWS=folder, WORKFLOW_MODEL=INNER)
    async with Client(gateway.url) as client:
        stream = await client.ask("Too much", model="workflow:flow")
        reply = await client.complete("Too much, whole", model="workflow:flow")
    assert (stream.end.json["code"], stream.end.json["retryable"]) == ("prepare_failed", False)
    assert "more than its 4 calls" in stream.end.json["message"]
    assert reply.status == 502
    assert simulator.stats()["calls"] <= 2 * 4
    await at_rest(gateway)


async def test_a_second_choice_answers_and_says_so(
    simulator: SimulatorProcess, start: Start, tmp_path: Path
) -> None:
    """Part 4: the first model hangs beyond the step's timeout, the fallback answers; it is told, not kept."""
    folder = flow(tmp_path, "hold=never times=1", "timeout_s: 0.3, fallback: second")
    gateway = start(simulator, WORKFLOWS=folder, WORKFLOW_MODEL=INNER)
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        reading = group.create_task(client.ask("Second", model="workflow:flow"))
        await eventually(lambda: simulator.stats()["calls_by_model"].get("second") == 1)
        simulator.release("never")
        stream = await reading
        await over(gateway)
        again = await client.ask("Second", model="workflow:flow")
    bad = stream.end.json["preparation"]["workflow"]["steps"][1]
    assert (bad["status"], bad["model"], bad["fallback"]) == ("done", "second", True)
    assert "timed_out" in bad["why"]
    assert again.end.json["cache"] == "miss"
    assert simulator.stats()["aborted"] == 1
    await at_rest(gateway)


async def test_a_killed_worker_leaves_its_workflow_to_another(
    simulator: SimulatorProcess, start: Start, tmp_path: Path
) -> None:
    """Rows 99 and 104: kill -9 of the worker that prepares; who waits on the other gets the whole answer."""
    gateway = start(
        simulator, workers=2, WORKFLOWS=every_pattern(tmp_path), WORKFLOW_MODEL=INNER, LEASE_S=120
    )
    workers = crew(gateway)
    question = prompt("Taken over", hold="gate")
    ask = {"model": "workflow:fork-join"}
    async with pinned(gateway, list(workers.values())) as (doomed, other), asyncio.TaskGroup() as group:
        led, followed = [await accepted(each, question, **ask) for each in (doomed, other)]
        assert (led["role"], followed["role"]) == ("leader", "follower")
        following = group.create_task(other.stream(followed["stream_url"]))
        await held(simulator, "gate", 5)
        os.kill(workers[1], signal.SIGKILL)
        await eventually(lambda: simulator.stats()["calls"] == 10)
        simulator.release("gate")
        stream = await following
    assert (stream.end.name, stream.text) == ("done", answer_to(joined(question, TOKENS), TOKENS))
    steps = stream.end.json["preparation"]["workflow"]["steps"]
    assert [step["step"] for step in steps] == [*BRANCHES, "joined"]
    assert simulator.stats()["calls"] == 10 + 1
    await eventually(gateway.at_rest)


async def test_what_a_model_says_is_never_a_template(
    simulator: SimulatorProcess, start: Start, tmp_path: Path
) -> None:
    """Part 4: braces in questions and answers reach the next step as they are."""
    text = "{{ 7 * 7 }} {% for x in y %} {{ question.__class__ }}"
    two = """
        name: two
        pattern: pipeline
        steps:
          - {name: a, prompt: "{{ question }}"}
          - {name: b, prompt: "{{ results.a }}"}
        """
    gateway = start(simulator, WORKFLOWS=write(tmp_path, "two", two), WORKFLOW_MODEL=INNER)
    async with Client(gateway.url) as client:
        asked = f"{{{{ messages }}}} [[sim text={saying(text)}]]"
        stream = await client.ask(asked, model="workflow:two")
    assert stream.text == answer_to(text, TOKENS)
    await at_rest(gateway)
