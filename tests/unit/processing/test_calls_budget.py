"""What a call of the preparation costs and earns: the budget of retries, and the patience for one."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from admission import Stage
from processing.calls import ModelCalls
from runtime.errors import PrepareFailed, UpstreamRateLimited
from runtime.supervisor import Supervisor
from tests.fakes.model import FakeModel
from tests.fakes.turn import FakeTurn
from tests.virtual_time import virtual
from upstream.client import ModelClient
from upstream.retry import RetryPolicy

PATIENCE_S = 60.0


class Calls:
    """Calls on a played model, with a budget of one retry per call noted and no jitter."""

    def __init__(self, permits: int = 1) -> None:
        self.model = FakeModel()
        clock = asyncio.get_running_loop().time
        self.retry = RetryPolicy(clock, uniform=lambda low, high: low, ratio=1.0, floor=0)
        stage = Stage("llm_calls", permits)
        model, spawn = cast(ModelClient, self.model), Supervisor().spawn
        self.calls = ModelCalls(model, stage, self.retry, spawn, patience_s=PATIENCE_S)

    async def ask(self) -> str:
        body = {"model": "m", "messages": [{"role": "user", "content": "q"}]}
        return (await self.calls.ask(FakeTurn(), body, "scope")).text


@virtual
async def test_a_call_earns_its_retry() -> None:
    """Once per call and not per try: else retries would pay for retries, and a dead model be hammered."""
    calls = Calls()
    calls.model.errors["plan:q"] = [UpstreamRateLimited(retry_after=1)]
    assert await calls.ask() == "2: answer to plan:q"

    calls.model.errors["plan:q"] = [UpstreamRateLimited(retry_after=1) for _ in range(2)]
    await asyncio.sleep(60)
    with pytest.raises(UpstreamRateLimited):
        await calls.ask()
    assert len(calls.model.calls) == 4


@virtual
async def test_patience_is_enough_for_exactly_itself() -> None:
    """A Retry-After of that many seconds is waited for, one of more is not."""
    calls = Calls()
    calls.model.errors["plan:q"] = [UpstreamRateLimited(retry_after=PATIENCE_S)]
    assert await calls.ask() == "2: answer to plan:q"

    calls.model.errors["plan:q"] = [UpstreamRateLimited(retry_after=PATIENCE_S + 0.001)]
    with pytest.raises(UpstreamRateLimited):
        await calls.ask()
    assert len(calls.model.calls) == 3


@virtual
async def test_a_call_has_as_many_tries_as_its_policy_says() -> None:
    """The first one is one of them."""
    calls = Calls()
    calls.model.errors["plan:q"] = [UpstreamRateLimited(retry_after=0) for _ in range(9)]
    for _ in range(9):
        calls.retry.note_call()  # the budget is not what ends it
    with pytest.raises(UpstreamRateLimited):
        await calls.ask()
    assert len(calls.model.calls) == 3


class Refusing(FakeTurn):
    """A turn that takes no more places: a workflow whose calls are used up."""

    def __setattr__(self, name: str, value: object) -> None:
        if name == "admission" and value is not None:
            raise PrepareFailed("too many calls")
        super().__setattr__(name, value)


@virtual
async def test_a_call_that_its_turn_refuses_is_not_made() -> None:
    """Nobody waits for it: what was begun is ended, and who asks the same later begins anew."""
    calls = Calls()
    body = {"model": "m", "messages": [{"role": "user", "content": "q"}]}
    with pytest.raises(PrepareFailed, match="too many calls"):
        await calls.calls.ask(Refusing(), body, "scope")
    assert len(calls.calls._twins) == 0
    await asyncio.sleep(60)
    assert calls.model.calls == []
    assert await calls.ask() == "1: answer to plan:q"


@virtual
async def test_whose_time_was_over_is_not_sent_back_to_the_same_call() -> None:
    """Two that share a call which hangs would keep it alive for each other, try after try."""
    calls = Calls(permits=2)
    calls.model.by_hand.add("plan:q")
    async with asyncio.TaskGroup() as group:
        staying = group.create_task(calls.ask())
        first = await calls.model.call("plan:q")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await calls.ask()
        assert len(calls.model.calls) == 1, "they shared it"
        again = group.create_task(calls.ask())
        second = await calls.model.call("plan:q", 2)
        second.say("new")
        second.complete()
        assert await again == "new"
        first.say("old")
        first.complete()
        assert await staying == "old", "who stays keeps what it waits for"
