"""All tools of a process, and one round of them: what may run at once does, and every call has a result."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from typing import Final

import msgspec

from admission import Stage
from admission.stage import StageStats
from processing.caller import Caller
from processing.preparer import Turn
from processing.tools.asked import Call
from processing.tools.events import UNKNOWN, Events, Observer, Unobserved, log
from processing.tools.executor import Executor
from processing.tools.places import Places
from processing.tools.results import Result, Status, refused
from processing.tools.slots import Limits, ToolStats
from processing.tools.threads import Threads
from processing.tools.tool import Arguments, ArgumentsRefused, Tool
from processing.twins import Spawn, Twins

#: More calls than this in one reply are not run: a model that runs wild is not to run the tools too.
MAX_CALLS: Final = 128
#: Each further call of a round counts as having come so much later: who has many leaves room to others.
SPREAD_S: Final = 1.0
_SORTED: Final = msgspec.json.Encoder(order="sorted")


@dataclass(frozen=True, slots=True)
class ToolboxStats:
    slots: StageStats
    tools: tuple[ToolStats, ...]
    running: int  #: runs, however many share each
    shared: int  #: calls that took part in the run of another, since the start
    threads: int  #: of blocking tools; as many as were ever needed at once


@dataclass(frozen=True, slots=True)
class _Nth:
    """The turn of one call of a round: behind those before it, and among the calls of other requests."""

    turn: Turn
    position: int

    @property
    def order(self) -> float:
        return self.turn.order + SPREAD_S * self.position


@dataclass(frozen=True, slots=True)
class At:
    """Whose turn a round has, and where its calls are while they wait."""

    turn: Turn
    places: Places = field(default_factory=Places)


class Toolbox:
    """The registry. `slots` bounds what runs at once, of all tools together. Raises ValueError for a name
    that is there twice.
    """

    def __init__(
        self,
        tools: Iterable[Tool],
        *,
        slots: int,
        spawn: Spawn,
        observer: Observer | None = None,
        on_wait: Callable[[float], None] | None = None,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._slots = Stage("tools", slots, on_wait=on_wait)
        self._events = Events(observer or Unobserved())
        self._twins: Twins[Result] = Twins(spawn, "tool")
        self._threads = Threads()
        self._executors: dict[str, Executor] = {}
        for tool in tools:
            if tool.name in self._executors:
                raise ValueError(f"there are two tools with the name {tool.name!r}")
            limits = Limits(tool, self._slots)
            self._executors[tool.name] = Executor(tool, limits, self._events, self._threads, uniform)

    def __repr__(self) -> str:
        return f"<Toolbox [{len(self._executors)} tools, {len(self._twins)} running, {self._slots!r}]>"

    def __len__(self) -> int:
        return len(self._executors)

    def __getitem__(self, name: str) -> Tool:
        return self._executors[name].tool

    def executor(self, name: str) -> Executor:
        return self._executors[name]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._executors)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The slots of all tools, and those of each."""
        return (self._slots, *(executor.limits.slots for executor in self._executors.values()))

    @property
    def user_bound(self) -> bool:
        """Whether what a request gets may be meant for its user alone."""
        return any(executor.tool.options.user_bound for executor in self._executors.values())

    @property
    def fingerprint(self) -> str:
        """Changes with anything that the model is told or that decides about caching: part of the sharing
        key.
        """
        said = [[e.tool.offered, e.tool.options.model_dump(), e.tool.about] for e in self._executors.values()]
        return blake2b(_SORTED.encode(said), digest_size=16).hexdigest()

    def for_caller(self, caller: Caller, names: Collection[str] | None = None) -> list[Tool]:
        """What this caller's model may choose from, of `names` or of all.

        A tool that works for a user is not offered to a request that names none.
        """
        tools = (executor.tool for executor in self._executors.values())
        return [
            tool
            for tool in tools
            if (names is None or tool.name in names)
            and (caller.user is not None or not tool.options.user_bound)
        ]

    async def run(
        self, calls: Sequence[Call], tools: Collection[Tool], caller: Caller, at: At
    ) -> list[Result]:
        """The result of each call, in the order of `calls`, however they end. `tools` are those that were
        offered.

        Read-only ones run at the same time, stateful ones one after the other, beside them.
        """
        offered = {tool.name: tool for tool in tools}
        results: dict[int, Result] = {}

        async def run(positions: Iterable[int]) -> None:
            for position in positions:
                results[position] = await self._one(calls[position], offered, caller, at, position)

        in_turn = [p for p, call in enumerate(calls) if _stateful(offered.get(call.name))]
        async with asyncio.TaskGroup() as group:
            for position, call in enumerate(calls):
                if position >= MAX_CALLS:
                    results[position] = refused(call.name, f"more than {MAX_CALLS} calls at once")
                elif not _stateful(offered.get(call.name)):
                    group.create_task(run([position]))
            group.create_task(run(p for p in in_turn if p < MAX_CALLS))
        return [results[position] for position in range(len(calls))]

    def stats(self) -> ToolboxStats:
        tools = tuple(executor.limits.stats() for executor in self._executors.values())
        return ToolboxStats(
            self._slots.stats(), tools, len(self._twins), self._twins.joins, self._threads.started
        )

    def close(self) -> None:
        """Its idle threads end. Last of all, when no flight runs any more. Idempotent."""
        self._threads.close()

    async def _one(
        self, call: Call, offered: Mapping[str, Tool], caller: Caller, at: At, position: int
    ) -> Result:
        """Never raises but for a cancellation: one call's failure is nobody else's."""
        try:
            result, shared, name = await self._judged(call, offered, caller, at, position)
        except asyncio.CancelledError:
            if call.name in offered:  # or it would have been begun, and never have ended
                self._events.ended(call.name, Result(call.name, Status.CANCELLED))
            raise
        self._events.ended(name, result, shared=shared)
        return result

    async def _judged(
        self, call: Call, offered: Mapping[str, Tool], caller: Caller, at: At, position: int
    ) -> tuple[Result, bool, str]:
        """The result, whether it is of another's run, and the name that it is counted under."""
        tool = offered.get(call.name)
        if tool is None:
            return (
                refused(call.name, f"there is no such tool; there are {', '.join(offered)}"),
                False,
                UNKNOWN,
            )
        try:
            arguments = tool.reader.read(call.arguments)
        except ArgumentsRefused as why:
            return refused(tool.name, str(why)), False, tool.name
        except Exception as error:
            return _broken(tool, error), False, tool.name
        self._events.invoked(tool.name)
        executor = self._executors[tool.name]
        work = partial(executor.run, executor.values(arguments, caller))
        place = self._twins.join(_key(tool, arguments, caller), _Nth(at.turn, position), work)
        try:
            with at.places.kept(place.company):
                return await place.result(), place.joined, tool.name
        except Exception as error:
            return _broken(tool, error), place.joined, tool.name


def _stateful(tool: Tool | None) -> bool:
    return tool is not None and tool.options.stateful


def _key(tool: Tool, arguments: Arguments, caller: Caller) -> Hashable:
    """Who asks for the same. What has an effect is the same as nothing else."""
    if tool.options.stateful:
        return object()
    whose = (caller.tenant, caller.user) if tool.options.user_bound else ()
    return (caller.scope, tool.name, arguments.canonical, whose)


def _broken(tool: Tool, error: Exception) -> Result:
    """What is not the tool's failure but ours, or that of a check in its hints: seen, and still a result."""
    log.error("a tool call broke", extra={"tool": tool.name, "error": type(error).__name__})
    return Result(tool.name, Status.FAILED, note=f"{tool.name} failed ({type(error).__name__})")
