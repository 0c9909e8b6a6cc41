"""Tools and workflow steps in traces: each in the step that it belongs to, however many run at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import pytest
from opentelemetry.trace import StatusCode

from app.telemetry.flights import preparing
from app.telemetry.watched import TracedPreparer, TracedWatch
from processing.caller import Caller
from processing.calls import ModelCalls
from processing.preparer import Preparer, Prompt, Step
from processing.tools.asked import Call
from processing.tools.toolbox import At
from processing.workflows.step import WorkflowStep
from runtime.metrics import Metrics
from tests.fakes.front import Front
from tests.fakes.tools import ANN, Bench, Played, call
from tests.fakes.tracing import Traces, seconds, traced_front
from tests.fakes.workflows import workflows
from tests.virtual_time import virtual
from upstream.client import ModelClient

REVIEW = """
    name: review
    pattern: fork_join
    branches: [{name: a, prompt: a}, {name: b, prompt: b}, {name: sub, workflow: inner, prompt: c}]
    answer: {name: verdict, prompt: q}
"""
INNER = "name: inner\npattern: pipeline\nsteps: [{name: x, prompt: x}, {name: y, prompt: y}]"


class ToolsAtOnce:
    """Runs these calls; stands for the rounds with a model."""

    name = "tools"

    def __init__(self, bench: Bench, *calls: Call) -> None:
        self._bench = bench
        self._calls = calls

    def applies(self, body: Any) -> bool:
        return True

    async def run(self, prompt: Prompt) -> Prompt:
        toolbox = self._bench.toolbox
        await toolbox.run(self._calls, toolbox.for_caller(ANN), ANN, At(prompt.turn))
        return replace(prompt)


@asynccontextmanager
async def prepared_by(*steps: Step) -> AsyncIterator[tuple[Front, Traces]]:
    async with traced_front() as (gate, traces):
        preparer = gate.pipe.broadcasts._preparer
        assert isinstance(preparer, TracedPreparer)
        preparer._plain = Preparer(steps)
        yield gate, traces


def attributes(span: Any) -> dict[str, Any]:
    return dict(span.attributes or {})


@virtual
async def test_a_tools_call_is_a_child_of_the_step_that_asked_for_it() -> None:
    """Named as the GenAI conventions do; the failed one is in error, the shared one says so."""
    watch = TracedWatch(Metrics().preparation)
    bench = Bench(Played().sleeper(timeout_s=3), observer=watch)
    calls = [call("sleep", seconds=1), call("sleep", seconds=1), call("sleep", seconds=9), call("other")]
    async with prepared_by(ToolsAtOnce(bench, *calls)) as (gate, traces):
        await gate.post("/chat", {"message": "a secret"})
        await asyncio.sleep(5)
        step = traces.one("prepare tools")
        assert sorted(traces.below(step)) == [*["execute_tool sleep"] * 3, "execute_tool unknown"]
        ran = {
            (attributes(span)["refrain.outcome"], attributes(span)["refrain.role"]): span
            for span in traces.named("execute_tool sleep")
        }
        assert ran.keys() == {("ok", "leader"), ("ok", "follower"), ("timed_out", "leader")}
        assert seconds(ran["ok", "leader"]) == 1
        assert seconds(ran["timed_out", "leader"]) == 3
        assert ran["timed_out", "leader"].status.status_code is StatusCode.ERROR
        assert ran["ok", "follower"].status.status_code is StatusCode.UNSET
        assert attributes(ran["ok", "leader"])["gen_ai.tool.name"] == "sleep"
        assert attributes(ran["ok", "leader"])["gen_ai.operation.name"] == "execute_tool"
        assert "secret" not in traces.everything()
    bench.assert_at_rest()


def reviewing(gate: Front, watch: TracedWatch) -> WorkflowStep:
    pipe = gate.pipe
    model, spawn = cast(ModelClient, pipe.model), pipe.supervisor.spawn
    return WorkflowStep(
        workflows(REVIEW, INNER),
        ModelCalls(model, pipe.llm_calls, pipe.retry, spawn, patience_s=1),
        lambda prompt: Caller("scope", prompt.tenant),
        show=lambda turn, where: watch.step_began(where),
        over=lambda turn, where: watch.step_ended(where),
    )


@virtual
async def test_each_step_of_a_workflow_is_a_span_of_its_own() -> None:
    """Those that run at the same time stand side by side, those of an inner workflow below its step."""
    async with prepared_by() as (gate, traces):
        preparer = gate.pipe.broadcasts._preparer
        assert isinstance(preparer, TracedPreparer)
        preparer._plain = Preparer([reviewing(gate, TracedWatch(Metrics().preparation))])
        await gate.post("/chat", {"message": "q", "model": "workflow:review"})
        await asyncio.sleep(5)
        whole = traces.one("prepare workflow")
        branches = ["a", "b", "sub"]
        assert sorted(traces.below(whole)) == [f"prepare workflow/{name}" for name in branches]
        sub = traces.one("prepare workflow/sub")
        assert traces.below(sub) == ["prepare workflow/sub/x", "prepare workflow/sub/y"]


@virtual
async def test_a_call_of_the_model_stands_in_the_step_that_makes_it() -> None:
    """Two steps at the same time: whose call it was is what a trace is looked at for."""
    watch = TracedWatch(Metrics().preparation)

    async def part(name: str) -> None:
        watch.step_began(name)
        await asyncio.sleep(1)
        flight = preparing.get()
        assert flight is not None
        flight.call(name).end(asyncio.get_running_loop().time(), failed=False)
        watch.step_ended(name)

    class TwoParts(ToolsAtOnce):
        async def run(self, prompt: Prompt) -> Prompt:
            async with asyncio.TaskGroup() as group:
                group.create_task(part("one"))
                group.create_task(part("two"))
            return prompt

    async with prepared_by(TwoParts(Bench())) as (gate, traces):
        await gate.post("/chat", {"message": "q"})
        await asyncio.sleep(5)
        assert traces.below(traces.one("prepare one")) == ["chat one"]
        assert traces.below(traces.one("prepare two")) == ["chat two"]


@virtual
async def test_a_workflow_that_is_given_up_leaves_no_span_open() -> None:
    """A span that never ends is never sent, and nobody sees what was given up."""
    async with prepared_by() as (gate, traces):
        preparer = gate.pipe.broadcasts._preparer
        assert isinstance(preparer, TracedPreparer)
        preparer._plain = Preparer([reviewing(gate, TracedWatch(Metrics().preparation))])
        gate.pipe.hold("llm_calls")
        reply = await gate.post("/chat", {"message": "q", "model": "workflow:review"})
        await asyncio.sleep(1)
        await gate.post(f"/chat/{reply.json['id']}/cancel", {})
        await asyncio.sleep(1)
        gate.pipe.let_go("llm_calls")
        names = ("a", "b", "sub", "sub/x")
        assert all(len(traces.named(f"prepare workflow/{name}")) == 1 for name in names)


@pytest.mark.parametrize("where", ["workflow/a", "workflow/sub/x"])
def test_without_a_flight_nothing_is_told(where: str) -> None:
    """A tool or a step outside of a traced flight is counted, and that is all."""
    watch = TracedWatch(Metrics().preparation)
    watch.step_began(where)
    assert watch.steps == {where: 1}
    watch.step_ended(where)
    assert watch.steps == {}
