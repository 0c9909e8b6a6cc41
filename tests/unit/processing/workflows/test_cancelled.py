"""A flight that is given up while its workflow runs: everything ends with it, at every moment."""

from __future__ import annotations

import asyncio

import pytest

from runtime.errors import UpstreamBadResponse, UpstreamError
from tests.cancellation import Moment, cancel_at_every_await
from tests.fakes.turns import settle
from tests.fakes.workflows import Cut, Flows
from tests.virtual_time import virtual

OUTER = """
    name: outer
    steps:
      - {name: a, prompt: a, timeout_s: 2, retries: 1}
      - {name: b, prompt: b, fallback: other}
      - {name: sub, depends_on: [a], workflow: inner, prompt: "{{ results.a }}"}
      - {name: end, depends_on: [b, sub], prompt: "{{ results.sub }}"}
"""
INNER = """
    name: inner
    pattern: fork_join
    branches: [{name: x, prompt: x}, {name: y, prompt: y}]
    answer: {name: z, prompt: z}
"""


@pytest.mark.parametrize("limit", [1, 2])
@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("moment", ["waiting", "granted"])
def test_a_cancelled_run_leaves_nothing(moment: Moment, again: bool, limit: int) -> None:
    """Row 76: whatever it waits for. Every permit is back, no call is open, the record has every step."""

    @virtual
    async def everywhere() -> None:
        flows = Flows(OUTER, INNER, calls=limit)

        async def run() -> None:
            flows.model.says["a"] = [UpstreamError()]
            flows.model.says["b"] = [Cut("b")]
            await flows.run("outer")

        async def all_back(n: int) -> None:
            await settle()
            flows.assert_over()
            assert flows.turn.admission is None
            assert {step.status for step in flows.record.steps} <= {"done", "failed", "skipped", "streams"}

        assert await cancel_at_every_await(run, all_back, moment=moment, again=again) >= 1

    everywhere()


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("seconds", [number / 4 + 0.1 for number in range(28)])
def test_a_run_that_is_cancelled_at_any_time_leaves_nothing(seconds: float, again: bool) -> None:
    """The same inside the tasks of its steps, which the run only waits for."""

    @virtual
    async def then() -> None:
        flows = Flows(OUTER, INNER, calls=1)
        flows.model.says["a"] = [UpstreamError()]
        flows.model.says["b"] = [Cut("b")]
        task = asyncio.get_running_loop().create_task(flows.run("outer"))
        await asyncio.wait({task}, timeout=seconds)
        running = not task.done()
        task.cancel()
        if again:
            await asyncio.sleep(0)
            task.cancel()
        calls = len(flows.model.calls)
        await asyncio.wait({task})
        assert task.cancelled() == running
        await asyncio.sleep(60)
        assert len(flows.model.calls) == calls
        flows.assert_over()

    then()


@virtual
async def test_a_fatal_failure_and_a_cancel_in_the_same_turn_are_a_cancel() -> None:
    """The flight is over either way, and its owner must hear that it was cancelled."""
    flows = Flows("""
        name: g
        steps:
          - {name: a, prompt: a, fatal: true}
          - {name: b, prompt: b}
          - {name: end, depends_on: [a, b], prompt: x}
    """)
    flows.model.says["a"] = [UpstreamBadResponse()]
    flows.model.takes = {"b": 60}
    task = asyncio.get_running_loop().create_task(flows.run("g"))
    asyncio.get_running_loop().call_later(1, task.cancel)
    await asyncio.wait({task})
    assert task.cancelled()
    flows.assert_over()
