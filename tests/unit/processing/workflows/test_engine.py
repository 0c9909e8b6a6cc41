"""The engine: independent steps at the same time, under one limit, in declared order, to the end."""

from __future__ import annotations

import asyncio

import pytest

from processing.caller import Caller
from processing.calls import Reply
from processing.preparer import Prompt
from processing.workflows.step import WorkflowStep
from tests.fakes.turn import FakeTurn, prompt
from tests.fakes.workflows import Flows, last_text, workflows
from tests.virtual_time import virtual

FORK = """
    name: fork
    pattern: fork_join
    branches:
      - {name: e, prompt: "e {{ question }}"}
      - {name: d, prompt: "d {{ question }}"}
      - {name: c, prompt: "c {{ question }}"}
      - {name: b, prompt: "b {{ question }}"}
      - {name: a, prompt: "a {{ question }}"}
    answer:
      name: join
      prompt: "{% for name, text in results.items() %}{{ name }}={{ text }};{% endfor %}"
"""


def wide(branches: int) -> str:
    """A phase of so many independent steps."""
    steps = "\n".join(f'  - {{name: s{number}, prompt: "s{number}"}}' for number in range(branches))
    return f"name: wide\npattern: fork_join\nbranches:\n{steps}\nanswer: {{name: join, prompt: x}}\n"


@virtual
async def test_five_branches_under_a_limit_of_two() -> None:
    """Row 74: the model never sees a third call, all five results are there, in the order of the file."""
    flows = Flows(FORK, calls=2)
    flows.model.takes = {"e q": 5, "a q": 0.5}
    prepared = await flows.run("fork")
    assert flows.model.peak["llm_calls"] == 2
    assert last_text(prepared) == "e=e q!;d=d q!;c=c q!;b=b q!;a=a q!;"
    assert [step.name for step in flows.record.steps] == ["e", "d", "c", "b", "a", "join"]
    flows.assert_over()


@pytest.mark.parametrize(("branches", "at_once", "seconds"), [(5, 5, 1), (15, 15, 1), (15, 5, 3), (5, 1, 5)])
def test_a_phase_takes_as_many_rounds_as_the_limit_makes(branches: int, at_once: int, seconds: int) -> None:
    """Independent steps wait for permits only: five at five take the time of one, fifteen at fifteen too."""

    @virtual
    async def phase() -> None:
        flows = Flows(wide(branches), calls=at_once)
        began = asyncio.get_running_loop().time()
        await flows.run("wide")
        assert asyncio.get_running_loop().time() - began == pytest.approx(seconds)
        assert flows.model.peak["llm_calls"] == min(at_once, branches)
        flows.assert_over()

    phase()


@virtual
async def test_a_workflow_is_a_model() -> None:
    """Row 104: the inner calls are made under llm_calls, and the last step is what the flight will stream."""
    flows = Flows(FORK)
    prepared = await flows.run("fork", temperature=0.3, stream=True)
    assert len(flows.model.calls) == 5
    assert prepared.body["model"] == "m"
    assert (prepared.body["temperature"], prepared.body["stream"]) == (0.3, True)
    assert all("temperature" not in call.body for call in flows.model.calls)
    assert flows.entry("join").status == "streams"
    assert prepared.store


@virtual
async def test_any_other_model_is_left_alone() -> None:
    """A plain request pays nothing for what it does not use."""
    step = Flows(FORK).step
    assert not step.applies(prompt("hello").body)
    assert step.applies({"model": "workflow:fork"})


@virtual
async def test_a_step_starts_when_what_it_needs_is_over_and_not_later() -> None:
    """No levels: a short branch does not wait for a long one that it does not need."""
    flows = Flows("""
        name: g
        steps:
          - {name: long, prompt: long}
          - {name: short, prompt: short}
          - {name: next, depends_on: [short], prompt: "next {{ results.short }}"}
          - {name: end, depends_on: [long, next], prompt: "{{ results.long }} {{ results.next }}"}
    """)
    flows.model.takes = {"long": 10}
    began = asyncio.get_running_loop().time()
    prepared = await flows.run("g")
    assert asyncio.get_running_loop().time() - began == pytest.approx(10)
    assert flows.model.prompts() == ["long", "short", "next short!"]
    assert last_text(prepared) == "long! next short!!"


@virtual
async def test_what_runs_is_shown_when_it_starts() -> None:
    """`preparing:workflow/<step>`: a client that waits sees for what, nested steps too."""
    flows = Flows(OUTER, INNER)
    await flows.run("outer")
    assert flows.shown == [
        "workflow/first",
        "workflow/child",
        "workflow/child/a",
        "workflow/child/b",
        "workflow/child/both",
    ]


OUTER = """
    name: outer
    steps:
      - {name: first, prompt: "first {{ question }}"}
      - {name: child, depends_on: [first], workflow: inner, prompt: "{{ results.first }}"}
      - {name: end, depends_on: [child], prompt: "got {{ results.child }}"}
"""
INNER = """
    name: inner
    pattern: fork_join
    branches:
      - {name: a, prompt: "a {{ question }}"}
      - {name: b, prompt: "b {{ question }}"}
    answer: {name: both, model: m2, prompt: "{{ results.a }}+{{ results.b }}"}
"""


@pytest.mark.parametrize("limit", [1, 2])
def test_a_nested_workflow_completes_at_any_limit(limit: int) -> None:
    """Row 75: a step that starts a workflow holds no permit while that one's steps want theirs."""

    @virtual
    async def nested() -> None:
        flows = Flows(OUTER, INNER, calls=limit)
        prepared = await flows.run("outer")
        assert last_text(prepared) == "got a first q!!+b first q!!!"
        assert flows.model.peak["llm_calls"] == limit
        inner = flows.entry("child").inner
        assert inner is not None
        assert [(step.name, step.status) for step in inner.steps] == [
            ("a", "done"),
            ("b", "done"),
            ("both", "done"),
        ]
        assert flows.model.calls[-1].body["model"] == "m2"
        assert (flows.record.calls, inner.calls, flows.entry("child").cost.calls) == (4, 3, 0)
        flows.assert_over()

    nested()


@virtual
async def test_a_workflow_whose_last_step_is_a_workflow_streams_the_last_step_of_that() -> None:
    """However deep: what streams is one call, with the parameters that the client gave."""
    flows = Flows(
        """
        name: outer
        steps:
          - {name: first, prompt: "first {{ question }}"}
          - {name: rest, depends_on: [first], workflow: inner, prompt: "{{ results.first }}"}
        """,
        INNER,
    )
    prepared = await flows.run("outer", max_tokens=7)
    assert last_text(prepared) == "a first q!!+b first q!!"
    assert (prepared.body["model"], prepared.body["max_tokens"]) == ("m2", 7)
    assert len(flows.model.calls) == 3
    assert flows.statuses() == {"first": "done", "rest": "streams"}


@virtual
async def test_many_runs_share_one_limit() -> None:
    """Row 21: the limit is the provider's, whatever asks."""
    flows = Flows(FORK, OUTER, INNER, calls=3)
    async with asyncio.TaskGroup() as group:
        for number in range(6):
            group.create_task(flows.run(("fork", "outer", "inner")[number % 3]))
    assert flows.model.peak["llm_calls"] == 3
    assert all(record.whole for record in flows.records)
    flows.assert_over()


@virtual
async def test_a_step_that_uses_tools_is_asked_through_them() -> None:
    """Row 21: their rounds are calls like all others, counted as this step's."""
    flows = Flows("""
        name: g
        steps:
          - {name: a, prompt: a, tools: [look-up]}
          - {name: end, depends_on: [a], prompt: "{{ results.a }}"}
    """)
    assert last_text(await flows.run("g")) == "a!"
    assert flows.tools.asked == [("look-up",)]
    assert flows.entry("a").cost.calls == 2


@virtual
async def test_a_fault_of_ours_ends_the_flight_and_is_not_taken_for_a_gap() -> None:
    """A bug must be seen: an answer with a hole in it would hide it."""
    flows = Flows(FORK)

    class Broken:
        async def ask(self, turn: object, body: object, scope: str) -> Reply:
            raise ZeroDivisionError

    library, who = workflows(FORK), lambda prompt: Caller("scope", "acme")
    step = WorkflowStep(library, Broken(), who, told=lambda turn, record: flows.records.append(record))
    with pytest.raises(ZeroDivisionError):
        await step.run(Prompt({"model": "workflow:fork", "messages": []}, FakeTurn()))
    assert flows.entry("e").why == "internal_error"


@virtual
async def test_the_parameters_of_the_last_step_win() -> None:
    """Who wrote the file knows what its answer needs; what the file leaves open is the client's."""
    flows = Flows(
        "name: w\nsteps: [{name: a, prompt: x, parameters: {temperature: 0, response_format: {type: text}}}]"
    )
    prepared = await flows.run("w", temperature=0.9, top_p=0.5)
    assert prepared.body == {
        "model": "m",
        "messages": [{"role": "user", "content": "x"}],
        "temperature": 0,
        "top_p": 0.5,
        "response_format": {"type": "text"},
    }
