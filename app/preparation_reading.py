"""The preparation as it is now, of one process and of several: steps under way, and each tool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from broadcast.lifecycle import Phase

if TYPE_CHECKING:
    from app.gateway import Gateway

#: The step whose own steps are counted instead of it.
_WORKFLOW = "workflow"


@dataclass(frozen=True, slots=True)
class ToolReading:
    """One tool. A slot that is `in_use` belongs to a run, to one that is next for the slots of all tools, or
    to a thread that was left.
    """

    name: str
    limit: int
    in_use: int
    waiting: int
    waiting_for_rate: int
    left_threads: int
    calls: int
    shared: int


@dataclass(frozen=True, slots=True)
class PreparationReading:
    """`steps`: how many of each are under way."""

    steps: dict[str, int] = field(default_factory=dict)
    tools: list[ToolReading] = field(default_factory=list)


def preparation_of(gateway: Gateway) -> PreparationReading:
    """This process, now."""
    return PreparationReading(_steps(gateway), list(_tools(gateway)))


def add_preparations(readings: Iterable[PreparationReading]) -> PreparationReading:
    """Limits are each process's own, so they add up like everything else."""
    steps: Counter[str] = Counter()
    tools: dict[str, ToolReading] = {}
    for one in readings:
        steps.update(one.steps)
        for tool in one.tools:
            tools[tool.name] = _sum(tools[tool.name], tool) if tool.name in tools else tool
    return PreparationReading(dict(sorted(steps.items())), list(tools.values()))


def over(gone: PreparationReading) -> PreparationReading:
    """What is left of a process that has ended: what it counted."""
    return PreparationReading(
        {},
        [
            replace(tool, limit=0, in_use=0, waiting=0, waiting_for_rate=0, left_threads=0)
            for tool in gone.tools
        ],
    )


def shown(preparation: PreparationReading) -> dict[str, Any]:
    """As `/pipeline` shows it."""
    return asdict(preparation)


def _steps(gateway: Gateway) -> dict[str, int]:
    """A workflow has several at once, the others are one after the other."""
    steps = Counter(gateway.preparation.steps)
    for broadcast in gateway.broadcasts.running:
        step = broadcast.step
        if broadcast.phase is Phase.PREPARING and not broadcast.remote and step is not None:
            steps[step] += step.partition("/")[0] != _WORKFLOW
    return dict(+steps)


def _tools(gateway: Gateway) -> Iterable[ToolReading]:
    for tool in gateway.preparing.toolbox.stats().tools:
        calls, shared = gateway.preparation.calls(tool.name)
        yield ToolReading(
            name=tool.name,
            limit=tool.slots.capacity,
            in_use=tool.slots.in_use,
            waiting=tool.slots.waiting,
            waiting_for_rate=tool.rate.waiting if tool.rate else 0,
            left_threads=tool.left_threads,
            calls=calls,
            shared=shared,
        )


def _sum(one: ToolReading, other: ToolReading) -> ToolReading:
    return ToolReading(
        one.name,
        one.limit + other.limit,
        one.in_use + other.in_use,
        one.waiting + other.waiting,
        one.waiting_for_rate + other.waiting_for_rate,
        one.left_threads + other.left_threads,
        one.calls + other.calls,
        one.shared + other.shared,
    )
