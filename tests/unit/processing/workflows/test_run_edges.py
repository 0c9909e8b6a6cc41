"""A run from within, names that are no workflow's, and versions of what is nested deeply."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import pytest

from admission import Stage
from processing.files.problems import BadFile
from processing.workflows.asking import Asking
from processing.workflows.drawing import text
from processing.workflows.engine import Last, Run, Scene
from processing.workflows.form import Step
from processing.workflows.loading import read
from processing.workflows.naming import asked_for
from processing.workflows.record import StepRecord
from processing.workflows.turns import Budget, Fan
from processing.workflows.view import Asked
from runtime.errors import PrepareFailed, UpstreamError
from tests.fakes.invariants import assert_free
from tests.fakes.turn import FakeTurn
from tests.fakes.workflows import Flows, last_text, workflows
from tests.unit.processing.workflows.test_loading import nest
from tests.virtual_time import virtual

LEAF = "name: leaf\nsteps: [{name: a, prompt: x}]"


class Looking:
    """Stands for the calls: answers each with its name, and notes how its entry stood then."""

    def __init__(self) -> None:
        self.seen: dict[str, str] = {}

    async def answer(self, step: Step, model: str, messages: list[Any], record: StepRecord) -> str:
        self.seen[step.name] = record.status
        return step.name


@virtual
async def test_a_record_can_be_read_while_it_is_made() -> None:
    """What runs says so, nested steps and their last ones too; what waits says that."""
    found = workflows(
        """
        name: w
        steps:
          - {name: a, prompt: x}
          - {name: s, depends_on: [a], workflow: leaf2, prompt: x}
          - {name: end, depends_on: [s], prompt: x}
        """,
        "name: leaf2\npattern: pipeline\nsteps: [{name: b, prompt: x}, {name: c, prompt: x}]",
    )
    asking = Looking()
    scene = Scene(cast(Asking, asking), cast(Mapping[str, Any], found))
    run = Run(found["w"], Asked([]), scene)
    assert [step.status for step in run.record.steps] == ["waiting"] * 3
    prepared = await run.prepare()
    assert asking.seen == {"a": "running", "b": "running", "c": "running"}
    assert [step.status for step in run.record.steps] == ["done", "done", "streams"]
    assert isinstance(prepared, Last)
    assert (prepared.step.name, prepared.record) == ("end", run.record.steps[2])


@virtual
async def test_an_agent_that_is_a_workflow_is_asked_its_prompt() -> None:
    """Not what its pattern tells it: that is a message of the system, and its question is not."""
    flows = Flows(
        """
        name: news
        pattern: publish_subscribe
        rounds: 1
        agents: [{name: scout, topics: [question], workflow: sub, prompt: "about {{ question }}"}]
        answer: {name: end, prompt: "{{ results.scout }}"}
        """,
        'name: sub\nsteps: [{name: only, prompt: "{{ question }}"}]',
    )
    flows.model.says["about q"] = ["[]"]
    await flows.run("news")
    assert flows.model.prompts() == ["about q"]


@virtual
async def test_a_fatal_step_that_succeeds_ends_nothing() -> None:
    """Fatal is its failure."""
    flows = Flows(
        "name: w\npattern: pipeline\n"
        "steps: [{name: a, prompt: a, fatal: true}, {name: b, prompt: '{{ results.a }}'}]"
    )
    assert last_text(await flows.run("w")) == "a!"


@virtual
async def test_a_parallel_answer_of_nothing_says_where_it_stopped() -> None:
    """At the first of them, with its reason."""
    steps = ", ".join(f"{{name: {name}, prompt: {name}}}" for name in "abc")
    flows = Flows(f"name: p\npattern: parallel\nsteps: [{steps}]")
    for name in "abc":
        flows.model.says[name] = [UpstreamError()]
    with pytest.raises(PrepareFailed, match="stopped at its step 'a': upstream_error"):
        await flows.run("p")


@pytest.mark.parametrize("model", [None, 3, "", "m", "workflow", ["workflow:w"]])
def test_what_names_no_workflow_is_none(model: object) -> None:
    """A body may hold anything."""
    assert asked_for({"model": model}) is None
    assert asked_for({}) is None


def test_a_workflow_is_named_after_its_colon() -> None:
    """All of it."""
    assert asked_for({"model": "workflow:a-b:c"}) == "a-b:c"


def said(files: Mapping[str, bytes]) -> list[str]:
    with pytest.raises(BadFile) as bad:
        read(files, model="m")
    return [str(problem) for problem in bad.value.problems]


def test_every_file_tells_its_problems() -> None:
    """One that cannot be read at all hides nothing of the others."""
    last = b"name: x\nmodell: y\nsteps: [{name: a, prompt: x}]"
    files = {"1.yaml": b"a: [", "2.yaml": b"\xff", "3.yaml": last}
    assert [line.split(":")[0] for line in said(files)] == ["1.yaml", "2.yaml", "3.yaml"]


def test_an_unknown_pattern_hides_no_other_problem() -> None:
    """What can be told without it is told."""
    found = said({"1.yaml": b"name: x\npattern: star\nsteps: [{name: a, name: b, prompt: x}]"})
    assert len(found) == 2
    assert any("there is no pattern 'star'" in line for line in found)
    assert any("is here twice" in line for line in found)


def test_parameters_have_names_all_of_them() -> None:
    """One that is a number among others would be lost, or two of them become one."""
    found = said({"1.yaml": b"name: x\nsteps: [{name: a, prompt: x, parameters: {a: 1, 2: b}}]"})
    assert found == ["1.yaml:2: step 'a': parameters: parameters are a mapping, as in a request's body"]


def test_the_version_is_of_what_is_nested_in_what_is_nested() -> None:
    """An edit two files below makes other answers above, and none beside."""
    files = [nest("top", "mid"), nest("mid", "leaf"), "name: beside\nsteps: [{name: a, prompt: x}]"]
    before, after = workflows(*files, LEAF), workflows(*files, LEAF.replace("prompt: x", "prompt: y"))
    same = {name for name in before if before[name].version == after[name].version}
    assert same == {"beside"}
    assert all(len(each.version) == 32 for each in before.values())


def test_a_step_stands_below_all_that_it_needs() -> None:
    """By the longest way to it: its level is when it can start at the earliest."""
    drawn = text(
        workflows("""
            name: w
            steps:
              - {name: a, prompt: x}
              - {name: b, depends_on: [a], prompt: x}
              - {name: c, depends_on: [a, b], prompt: x}
        """)["w"]
    )
    assert [line[:5].strip() for line in drawn.splitlines()[2:]] == ["1  a", "2  b", "3  c"]


@virtual
async def test_a_flight_shows_the_best_place_that_still_waits() -> None:
    """A call that runs has no place, and its wait ended with its permit; the other's goes on."""
    stage, loop = Stage("llm_calls", 1), asyncio.get_running_loop()
    fan = Fan(FakeTurn(), Budget(9, "w"))
    first, second = fan.open(), fan.open()
    first.admission = running = stage.admit(first)
    second.admission = waiting = stage.admit(second)
    began = loop.time()
    assert (fan.position, fan.told(7), fan.permit) == (1, 7, None)
    await asyncio.sleep(2)
    assert (first.queued_s(loop.time()), second.queued_s(loop.time())) == (0, 2)
    running.withdraw()
    await asyncio.sleep(3)
    assert second.queued_s(loop.time()) == 2
    assert (fan.position, loop.time() - began) == (0, 5)
    waiting.withdraw()
    assert_free(stage)
