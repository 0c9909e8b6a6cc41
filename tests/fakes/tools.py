"""Tools that are played by the test, and a model that asks for them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from processing.calls import Reply
from processing.preparer import Prompt, Turn
from processing.tools import Caller, Result, Rounds, Tool, Toolbox, ToolStep, tool
from processing.tools.asked import Call
from processing.tools.events import Observer
from processing.tools.results import Status
from processing.tools.toolbox import At
from runtime.supervisor import Supervisor
from tests.fakes.invariants import assert_free
from tests.fakes.turn import FakeTurn, prompt

ANN = Caller("scope", "acme", "ann")
CACHE_TTL_S = 1000.0


class Played:
    """Counts who is inside of a tool, and who has cleaned up. `log` is who began and who ended, in order."""

    def __init__(self) -> None:
        self.inside = self.peak = self.begun = self.cleaned = 0
        self.log: list[str] = []

    @asynccontextmanager
    async def counted(self, name: str = "") -> AsyncIterator[None]:
        self.inside += 1
        self.begun += 1
        self.peak = max(self.peak, self.inside)
        self.log.append(f"+{name}")
        try:
            yield
        finally:
            self.inside -= 1
            self.cleaned += 1
            self.log.append(f"-{name}")

    def sleeper(self, name: str = "sleep", **options: Any) -> Tool:
        """`name(seconds, say)`: takes so long, then says it."""

        async def sleep(seconds: float = 1, say: str = "done") -> str:
            """Sleeps."""
            async with self.counted(say):
                await asyncio.sleep(seconds)
            return say

        return tool(sleep, name=name, **{"cacheable": True, **options})


@dataclass
class Witness:
    """An observer that remembers."""

    begun: list[str] = field(default_factory=list)
    ends: list[tuple[str, str, bool]] = field(default_factory=list)

    def started(self, tool: str, waited_s: float) -> None:
        self.begun.append(tool)

    def ended(self, tool: str, status: Status, ran_s: float, *, shared: bool) -> None:
        self.ends.append((tool, str(status), shared))


class Bench:
    """A toolbox and its owner of tasks. No jitter: a back-off is as long as it may be."""

    def __init__(self, *tools: Tool, slots: int = 64, observer: Observer | None = None) -> None:
        self.supervisor = Supervisor()
        self.toolbox = Toolbox(
            tools,
            slots=slots,
            spawn=self.supervisor.spawn,
            observer=observer,
            uniform=lambda low, high: high,
        )

    async def run(self, *calls: Call, caller: Caller = ANN, turn: Turn | None = None) -> list[Result]:
        tools = self.toolbox.for_caller(caller)
        return await self.toolbox.run(calls, tools, caller, At(turn or FakeTurn()))

    async def one(self, name: str, /, **arguments: Any) -> Result:
        return (await self.run(call(name, **arguments)))[0]

    def assert_at_rest(self) -> None:
        stats = self.toolbox.stats()
        assert (stats.slots.in_use, stats.slots.waiting, stats.running) == (0, 0, 0)
        assert stats.slots.admitted == stats.slots.released
        for each in stats.tools:
            assert (each.slots.in_use, each.slots.waiting, each.left_threads) == (0, 0, 0), each
            assert each.rate is None or (each.rate.waiting, each.rate.in_hand) == (0, 0), each
        for executor in map(self.toolbox.executor, self.toolbox.names):
            assert_free(executor.limits.slots)
        assert len(self.supervisor) == 0, repr(self.supervisor)
        self.toolbox.close()


def call(name: str, id: str = "c", /, **arguments: Any) -> Call:
    return Call(id, name, json.dumps(arguments))


def chosen(*calls: tuple[str, dict[str, Any]], text: str | None = None) -> Reply:
    """A model's reply that asks for these."""
    listed = [
        {
            "id": f"call-{n}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        for n, (name, arguments) in enumerate(calls)
    ]
    return Reply({"role": "assistant", "content": text, "tool_calls": listed}, "tool_calls", None)


def said(text: str) -> Reply:
    return Reply({"role": "assistant", "content": text}, "stop", None)


class Chooser:
    """Stands where `ModelCalls` stands: gives one reply after the other, then texts. `before` runs first."""

    def __init__(
        self, *replies: Reply | Exception, before: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self._replies: Sequence[Reply | Exception] = replies
        self._before = before
        self.bodies: list[dict[str, Any]] = []

    async def ask(self, turn: Turn, body: Mapping[str, Any], scope: str) -> Reply:
        position = len(self.bodies)
        self.bodies.append({**body, "messages": list(body["messages"])})
        if self._before is not None:
            await self._before()
        await asyncio.sleep(0)
        reply = self._replies[position] if position < len(self._replies) else said("enough")
        if isinstance(reply, Exception):
            raise reply
        return reply


class Scene:
    """The step on a played model. `caller` is whom every prompt is for."""

    def __init__(self, *replies: Reply | Exception, tools: tuple[Tool, ...], limit: int = 3) -> None:
        self.bench = Bench(*tools, slots=1)
        self.model = Chooser(*replies)
        self.caller = ANN
        self.rounds = Rounds(self.bench.toolbox, self.model, limit)
        self.step = ToolStep(self.rounds, lambda prompt: self.caller, CACHE_TTL_S)

    async def run(self, **body: Any) -> Prompt:
        asked = prompt()
        return await self.step.run(replace(asked, body={**asked.body, **body}))


def result(id: str, content: str) -> dict[str, str]:
    """As a model reads it."""
    return {"role": "tool", "tool_call_id": id, "content": content}
