"""What tools and workflows tell, as totals and as metrics: each thing once, under names of the registry."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app.preparation_watch import PreparationWatch
from processing.tools.events import UNKNOWN
from processing.tools.results import Status
from processing.workflows.record import Cost, Record, StepRecord
from runtime.metrics import Metrics
from tests.fakes.tools import Bench, Played, call
from tests.fakes.turns import settle
from tests.fakes.workflows import Flows
from tests.virtual_time import virtual


class Watched:
    """A watch, and what it says in metrics."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.watch = PreparationWatch(self.metrics.preparation)

    def sample(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"refrain_{name}", labels) or 0.0

    def counted(self) -> dict[tuple[str, str, str], float]:
        """By workflow, step and status: the steps, also those that are still 0."""
        return {
            (sample.labels["workflow"], sample.labels["step"], sample.labels["status"]): sample.value
            for metric in self.metrics.preparation.workflow_steps.collect()
            for sample in metric.samples
        }

    def steps(self) -> dict[tuple[str, str, str], float]:
        return {at: value for at, value in self.counted().items() if value}


@virtual
async def test_a_run_that_is_shared_counts_twice_as_a_call_and_once_as_a_run() -> None:
    """Row 81: by tool and result; the seconds of a run are not doubled by those who share it."""
    mine = Watched()
    bench = Bench(Played().sleeper(), observer=mine.watch)
    await bench.run(call("sleep", seconds=2), call("sleep", seconds=2), call("sleep", seconds=3))
    bench.assert_at_rest()
    assert mine.watch.totals == {"tool_calls": 3, "tool_calls_shared": 1, "workflow_steps": 0}
    assert mine.watch.calls("sleep") == (3, 1)
    assert mine.sample("tool_calls_total", tool="sleep", status="ok") == 3
    assert mine.sample("tool_calls_shared_total", tool="sleep") == 1
    assert mine.sample("tool_seconds_count", tool="sleep") == 2
    assert mine.sample("tool_seconds_sum", tool="sleep") == 5
    assert mine.sample("tool_wait_seconds_count", tool="sleep") == 2


@virtual
async def test_a_wait_is_told_of_the_try_that_waited() -> None:
    """Who runs alone waits for the one before: that is no time of the tool's."""
    mine = Watched()
    bench = Bench(Played().sleeper(limit=1), observer=mine.watch)
    await bench.run(call("sleep", seconds=2, say="a"), call("sleep", seconds=2, say="b"))
    assert mine.sample("tool_wait_seconds_sum", tool="sleep") == 2
    assert mine.sample("tool_seconds_sum", tool="sleep") == 4


def test_what_was_not_run_has_no_time() -> None:
    """A tool that the model has made up is counted under one word, whatever its name was."""
    mine = Watched()
    mine.watch.ended(UNKNOWN, Status.REFUSED, 0.0, shared=False)
    assert mine.sample("tool_calls_total", tool="unknown", status="refused") == 1
    assert mine.sample("tool_seconds_count", tool="unknown") == 0
    assert (mine.watch.calls("weather"), mine.watch.calls(UNKNOWN)) == ((0, 0), (1, 0))


@virtual
async def test_what_was_cut_off_counts_as_a_call_and_has_no_time() -> None:
    """Row 81: how long it would have taken, nobody knows."""
    mine = Watched()
    bench = Bench(Played().sleeper(), observer=mine.watch)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(bench.run(call("sleep", seconds=9)))
        await settle()
        running.cancel()
    assert mine.sample("tool_calls_total", tool="sleep", status="cancelled") == 1
    assert mine.sample("tool_seconds_count", tool="sleep") == 0
    assert mine.watch.calls("sleep") == (1, 0)


def step(name: str, status: Any, **more: Any) -> StepRecord:
    return StepRecord(name, name, status, **more)


def test_the_steps_of_a_workflow_are_counted_under_its_name() -> None:
    """Row 81: each by how it ended; an inner workflow's are its own; nothing is counted twice."""
    mine = Watched()
    inner = Record("inner", "v", [step("x", "failed", cost=Cost(calls=3, seconds=1.5))])
    steps = [
        step("a", "done", cost=Cost(calls=1, seconds=2), fallback=True),
        step("b", "done", inner=inner),
        step("c", "skipped"),
        step("d", "streams"),
    ]
    mine.watch.workflow_ended(Record("outer", "v", steps))
    assert mine.watch.totals["workflow_steps"] == 5
    assert mine.steps() == {
        ("outer", "a", "done"): 1,
        ("outer", "b", "done"): 1,
        ("outer", "c", "skipped"): 1,
        ("outer", "d", "streams"): 1,
        ("inner", "x", "failed"): 1,
    }
    assert mine.sample("workflow_calls_total", workflow="outer") == 1
    assert mine.sample("workflow_calls_total", workflow="inner") == 3
    assert mine.sample("workflow_step_seconds_sum", workflow="outer", step="a") == 2
    assert mine.sample("workflow_step_seconds_count", workflow="outer", step="b") == 0
    assert mine.sample("workflow_step_seconds_sum", workflow="inner", step="x") == 1.5
    assert mine.sample("workflow_fallbacks_total", workflow="outer") == 1
    assert mine.sample("workflow_fallbacks_total", workflow="inner") == 0


@pytest.mark.parametrize("status", ["waiting", "running"])
def test_a_step_that_a_cancel_has_cut_off_is_skipped(status: str) -> None:
    """Labels are a closed set, which alerts and dashboards name."""
    mine = Watched()
    mine.watch.workflow_ended(Record("f", "v", [step("a", status)]))
    assert mine.steps() == {("f", "a", "skipped"): 1}


@virtual
async def test_what_a_run_counts_was_there_before_it_at_0() -> None:
    """A closed set: the rounds of a step are one, and so are all uses of a nested workflow."""
    mine = Watched()
    flows = Flows(
        """
        name: outer
        pattern: graph
        steps:
          - {name: one, prompt: x, workflow: talk}
          - {name: two, prompt: y, workflow: talk}
          - {name: end, prompt: z, depends_on: [one, two]}
        """,
        """
        name: talk
        pattern: debate
        rounds: 2
        debaters: [{name: pro, prompt: "pro{{ round }}"}, {name: con, prompt: "con{{ round }}"}]
        answer: {name: judge, prompt: judge}
        """,
    )
    mine.watch.expect([], flows.step._workflows.values())
    before = mine.counted()
    assert set(before.values()) == {0}
    await flows.run("outer")
    mine.watch.workflow_ended(flows.record)
    assert mine.counted().keys() == before.keys()
    assert mine.steps() == {
        ("outer", "one", "done"): 1,
        ("outer", "two", "done"): 1,
        ("outer", "end", "streams"): 1,
        ("talk", "pro", "done"): 4,
        ("talk", "con", "done"): 4,
        ("talk", "judge", "done"): 2,
    }
    assert mine.sample("workflow_step_seconds_count", workflow="talk", step="pro") == 4


@virtual
async def test_steps_are_under_way_from_their_start_to_their_end() -> None:
    """All that run at the same time, and none after the end."""
    mine = Watched()
    seen: list[dict[str, int]] = []
    flow = """
        name: f
        pattern: fork_join
        branches: [{name: x, prompt: x}, {name: y, prompt: y}]
        answer: {name: z, prompt: z}
    """
    flows = Flows(flow)
    flows.model.takes["y"] = 3.0

    def began(where: str) -> None:
        mine.watch.step_began(where)
        seen.append(dict(mine.watch.steps))

    def ended(where: str) -> None:
        mine.watch.step_ended(where)
        seen.append(dict(mine.watch.steps))

    flows.step._show = lambda turn, where: began(where)
    flows.step._over = lambda turn, where: ended(where)
    await flows.run("f")
    assert seen == [{"workflow/x": 1}, {"workflow/x": 1, "workflow/y": 1}, {"workflow/y": 1}, {}]


def test_saved_calls_of_the_model_are_told_as_they_grow() -> None:
    """They are read from a total at each scrape: two scrapes must not count them twice."""
    mine = Watched()
    for total in (2, 2, 5):
        mine.watch.inner_calls_shared(total)
    assert mine.sample("inner_calls_shared_total") == 5
