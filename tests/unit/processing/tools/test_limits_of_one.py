"""Every limit at one: flights that ask a model, run tools and ask again complete, and nothing holds two
things.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

from admission import Stage
from processing.account import account_of
from processing.calls import ModelCalls
from processing.tools import Rounds, ToolStep
from processing.tools.bound import BoundRounds
from tests.fakes.invariants import assert_free
from tests.fakes.model import finish
from tests.fakes.tools import ANN, CACHE_TTL_S, Bench, Played
from tests.fakes.turn import FakeTurn, prompt
from tests.virtual_time import virtual
from upstream.chunk import Chunk, parse_chunk
from upstream.client import ModelClient
from upstream.permit import LlmPermit, require
from upstream.retry import RetryPolicy


class ToolModel:
    """A client whose model asks twice for two tools, as the wire has it in pieces, and then has enough."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.inside = self.peak = self.calls = 0

    @asynccontextmanager
    async def stream(
        self, permit: LlmPermit, body: Mapping[str, Any]
    ) -> AsyncIterator[AsyncIterator[list[Chunk]]]:
        require(permit)
        self.calls += 1
        self.inside += 1
        self.peak = max(self.peak, self.inside)
        rounds = sum(message["role"] == "assistant" for message in body["messages"])
        try:
            await asyncio.sleep(0.1)
            yield self._say(body["messages"][0]["content"], rounds)
        finally:
            self.inside -= 1

    async def _say(self, name: str, rounds: int) -> AsyncIterator[list[Chunk]]:
        if rounds < 2:
            for index, tool in enumerate(("sleep", "write")):
                arguments = json.dumps({"say": f"{name}{rounds}{tool}"})
                yield [_piece(index, {"id": f"c{index}", "function": {"name": tool, "arguments": ""}})]
                yield [_piece(index, {"function": {"arguments": part}}) for part in arguments]
        yield finish()


def _piece(index: int, call: dict[str, Any]) -> Chunk:
    delta = {"tool_calls": [{"index": index, "type": "function", **call}]}
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    return parse_chunk(json.dumps({"choices": [choice]}).encode())


class Everything:
    """One leader, one call, one slot for all tools, and one for each."""

    def __init__(self) -> None:
        self.played = Played()
        write = self.played.sleeper("write", cacheable=False, stateful=True, limit=1)
        self.bench = Bench(self.played.sleeper(limit=1), write, slots=1)
        self.model = ToolModel(self.bench)
        self.leaders, self.llm_calls = Stage("leaders", 1), Stage("llm_calls", 1)
        retry = RetryPolicy(asyncio.get_running_loop().time, uniform=lambda low, high: high)
        model, spawn = cast(ModelClient, self.model), self.bench.supervisor.spawn
        calls = ModelCalls(model, self.llm_calls, retry, spawn, patience_s=60)
        self.rounds = Rounds(self.bench.toolbox, calls, 3)
        self.step = ToolStep(self.rounds, lambda prompt: ANN, CACHE_TTL_S)

    def assert_at_rest(self) -> None:
        self.bench.assert_at_rest()
        assert_free(self.leaders)
        assert_free(self.llm_calls)


@virtual
async def test_with_every_limit_at_one_everything_completes() -> None:
    """Row 75, and row 70's peaks at both the model and the tools."""
    everything = Everything()

    async def flight(name: str) -> list[Any]:
        turn = FakeTurn()
        async with everything.leaders.admit(turn):
            prepared = await everything.step.run(prompt(name, turn))
        return [message["content"] for message in prepared.body["messages"] if message["role"] == "tool"]

    async with asyncio.TaskGroup() as group:
        flights = [group.create_task(flight(name)) for name in "abc"]
    for name, task in zip("abc", flights, strict=True):
        assert task.result() == [f"{name}0sleep", f"{name}0write", f"{name}1sleep", f"{name}1write"]
    assert (everything.model.peak, everything.model.calls, everything.played.peak) == (1, 9, 1)
    everything.assert_at_rest()


@virtual
async def test_a_call_of_the_model_and_a_tool_run_side_by_side() -> None:
    """Neither is held during the other: two flights in step, each at its own limit of one."""
    everything = Everything()
    clock = asyncio.get_running_loop().time
    began = clock()
    async with asyncio.TaskGroup() as group:
        for name in "ab":
            group.create_task(everything.step.run(prompt(name, FakeTurn())))
    assert everything.model.peak == 1
    # Eight seconds of tools one after the other, and before the first of them one call of the model.
    assert round(clock() - began, 3) <= 8.3
    everything.assert_at_rest()


@virtual
async def test_the_steps_of_a_workflow_share_the_same_limits() -> None:
    """And what they used bounds the answer's life."""
    everything = Everything()
    tools = BoundRounds(everything.rounds, ANN, CACHE_TTL_S)
    async with asyncio.TaskGroup() as group:
        for name in "ab":
            group.create_task(tools.ask(FakeTurn(), prompt(name).body, ["sleep", "write"]))
    assert (everything.model.peak, everything.played.peak) == (1, 1)
    assert len(tools.talks) == 2
    bounded = tools.bounded(prompt())
    assert not bounded.store
    assert [each["tool"] for each in account_of(bounded.preface)["tools"]] == ["sleep", "write"] * 4
    everything.assert_at_rest()
