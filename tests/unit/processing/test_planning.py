"""The planning step: one call of the model under its own permit, with the turn that its flight has now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import pytest

from admission import Stage
from processing.caller import Caller
from processing.calls import ModelCalls
from processing.planning import INSTRUCTION, PREFIX, PlanningStep
from runtime.errors import UpstreamError, UpstreamRateLimited, UpstreamRejected
from runtime.supervisor import Supervisor
from tests.cancellation import Moment, cancel_at_every_await, raise_at_every_await
from tests.fakes.invariants import assert_free
from tests.fakes.model import FakeModel
from tests.fakes.turn import FakeTurn, prompt
from tests.fakes.turns import settle, turns
from tests.virtual_time import virtual
from upstream.client import ModelClient
from upstream.errors import UpstreamUnavailable
from upstream.retry import RetryPolicy


class Planning:
    """The step on a played model, with one permit."""

    def __init__(self, capacity: int = 1) -> None:
        self.model = FakeModel()
        self.stage = Stage("llm_calls", capacity)
        retry = RetryPolicy(asyncio.get_running_loop().time, uniform=lambda low, high: high)
        client = cast(ModelClient, self.model)
        self.supervisor = Supervisor()
        self.calls = ModelCalls(client, self.stage, retry, self.supervisor.spawn, patience_s=60)
        self.step = PlanningStep("planner", self.calls, lambda prompt: Caller(prompt.tenant, prompt.tenant))

    async def all_back(self, n: int) -> None:
        await asyncio.sleep(60)
        assert_free(self.stage)
        assert self.model.in_flight["llm_calls"] == 0


@virtual
async def test_the_plan_is_put_before_the_conversation() -> None:
    """Asked of the planning model, and handed to the answering one."""
    planning = Planning()
    prepared = await planning.step.run(prompt("hello"))
    call = planning.model.calls[0]
    assert call.body["model"] == "planner"
    assert call.body["messages"] == [
        {"role": "system", "content": INSTRUCTION},
        {"role": "user", "content": "hello"},
    ]
    assert prepared.body["model"] == "m"
    assert prepared.body["messages"] == [
        {"role": "system", "content": PREFIX + "1: answer to plan:hello"},
        {"role": "user", "content": "hello"},
    ]
    assert_free(planning.stage)


@pytest.mark.parametrize("capacity", [1, 3])
def test_the_peak_of_planning_calls_is_the_limit(capacity: int) -> None:
    """Row 21, rule 13: counted where it matters, at the model."""

    @virtual
    async def peak() -> None:
        planning = Planning(capacity)
        async with asyncio.TaskGroup() as group:
            for number in range(capacity * 3):
                group.create_task(planning.step.run(prompt(f"q{number}")))
        assert planning.model.peak["llm_calls"] == capacity
        assert_free(planning.stage)

    peak()


@virtual
async def test_a_transient_failure_is_tried_again_without_a_permit() -> None:
    """Nothing is held during a back-off."""
    planning = Planning()
    planning.model.errors["plan:q"] = [UpstreamUnavailable(), UpstreamUnavailable()]
    async with asyncio.TaskGroup() as group:
        group.create_task(planning.step.run(prompt()))
        await settle()
        assert planning.stage.stats().in_use == 0
    assert len(planning.model.calls) == 3


@pytest.mark.parametrize("error", [UpstreamRejected(status=400), UpstreamError()])
def test_a_final_failure_fails_the_preparation(error: UpstreamError) -> None:
    """Rule 15: no answer without the plan that it was meant to have."""

    @virtual
    async def fails() -> None:
        planning = Planning()
        planning.model.errors["plan:q"] = [error]
        with pytest.raises(type(error)) as raised:
            await planning.step.run(prompt())
        assert raised.value is error
        assert_free(planning.stage)

    fails()


@virtual
async def test_a_retry_after_beyond_the_deadline_fails_at_once() -> None:
    """A leaders permit is not held for a minute to be told no."""
    planning = Planning()
    planning.model.errors["plan:q"] = [UpstreamRateLimited(retry_after=3600)]
    began = asyncio.get_running_loop().time()
    with pytest.raises(UpstreamRateLimited):
        await planning.step.run(prompt())
    assert asyncio.get_running_loop().time() == began


@virtual
async def test_a_waiting_call_has_the_turn_its_flight_has_now() -> None:
    """No inversion here either: who joins a waiting flight brings its own turn."""
    planning = Planning()
    holder = planning.stage.admit(FakeTurn(0))
    turn = FakeTurn(30)
    async with asyncio.TaskGroup() as group:
        group.create_task(planning.step.run(prompt("batch", turn)))
        group.create_task(planning.step.run(prompt("other", FakeTurn(10))))
        await settle()
        assert turn.admission is not None
        assert turn.admission.position == 2
        turn.order = 5
        turn.admission.reorder()
        holder.withdraw()
    assert [call.prompt for call in planning.model.calls] == ["plan:batch", "plan:other"]


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("moment", ["waiting", "granted"])
def test_a_cancelled_plan_gives_its_permit_back(moment: Moment, again: bool) -> None:
    """While waiting, calling, backing off and calling again. What is shared runs in a task of its own, and is
    cancelled there: `test_twins.py`.
    """

    @virtual
    async def cancelled_everywhere() -> None:
        planning = Planning()

        async def plan() -> None:
            holder = planning.stage.admit(FakeTurn(-1))
            asyncio.get_running_loop().call_later(1, holder.withdraw)
            planning.model.errors["plan:q"] = [UpstreamUnavailable()]
            await planning.calls._tried(FakeTurn(), prompt().body)

        assert await cancel_at_every_await(plan, planning.all_back, moment=moment, again=again) >= 5

    cancelled_everywhere()


@pytest.mark.parametrize("error", [ConnectionError, TimeoutError])
def test_a_plan_that_breaks_gives_its_permit_back(error: Callable[[], Exception]) -> None:
    """Whatever the client throws, the stage is free afterwards."""

    @virtual
    async def breaking_everywhere() -> None:
        planning = Planning()

        async def plan() -> None:
            await planning.calls._tried(FakeTurn(), prompt().body)

        assert await raise_at_every_await(plan, planning.all_back, error) >= 2

    breaking_everywhere()


@virtual
async def test_a_plan_for_nobody_is_given_up() -> None:
    """Cancelled after any number of turns of the loop: no permit, no call and no task is left."""
    for turns_before in range(20):
        planning = Planning()
        planning.model.errors["plan:q"] = [UpstreamUnavailable()]
        async with asyncio.TaskGroup() as group:
            task = group.create_task(planning.step.run(prompt()))
            await turns(turns_before)
            task.cancel()
        assert_free(planning.stage)
        assert planning.model.in_flight["llm_calls"] == 0
        assert len(planning.supervisor) == 0


@virtual
async def test_who_asks_the_same_at_the_same_time_shares_the_call() -> None:
    """Only within a scope, and only what runs: a plan is no cache."""
    planning = Planning(2)
    tenants = ["acme", "acme", "other"]
    async with asyncio.TaskGroup() as group:
        for tenant in tenants:
            group.create_task(planning.step.run(replace(prompt(), tenant=tenant)))
    assert (len(planning.model.calls), planning.calls.joins) == (2, 1)
    await planning.step.run(replace(prompt(), tenant="acme"))
    assert len(planning.model.calls) == 3


@virtual
async def test_a_workflow_needs_no_plan() -> None:
    """It is one."""
    step = Planning().step
    assert step.applies({"model": "m"})
    assert not step.applies({"model": "workflow:review"})
