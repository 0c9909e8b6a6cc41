"""The one graph that every pattern becomes: what is asked, what it needs, and when it has nothing to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from processing.workflows.form import Limits, Step

#: What other steps have said, word for word, by the name of their node; only those that succeeded.
Said = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Idle:
    """A node that has nothing to do in this run, and why."""

    why: str


def _nothing_more(said: Said) -> Mapping[str, Any]:
    return {}


def _as_it_is(text: str) -> tuple[str, str]:
    return text, ""


@dataclass(frozen=True, slots=True)
class Node:
    """One place in the graph. A step that is repeated in rounds has a node `step@round` for each.

    `inputs` makes further variables from what was said before, or tells that there is nothing to do.
    `clean` turns a raw reply into (what others read, a note for the record). `told` stands before the
    step's own system message.
    """

    name: str
    step: Step
    needs: tuple[str, ...] = ()
    round: int = 1
    inputs: Callable[[Said], Mapping[str, Any] | Idle] = _nothing_more
    clean: Callable[[str], tuple[str, str]] = _as_it_is
    told: str = ""

    @property
    def alias(self) -> str:
        """Its name in templates."""
        return self.step.name

    @property
    def may_idle(self) -> bool:
        """Whether what was said before decides if there is anything to do."""
        return self.inputs is not _nothing_more


@dataclass(frozen=True)
class Graph:
    """`nodes` in declared order, without cycles. `last` streams; None: the answer is all of them."""

    nodes: tuple[Node, ...]
    last: Node | None
    after: Mapping[str, tuple[str, ...]] = field(init=False)  #: who needs it
    before: Mapping[str, tuple[Node, ...]] = field(init=False)  #: all that is over when it starts, in order

    def __post_init__(self) -> None:
        after: dict[str, tuple[str, ...]] = {node.name: () for node in self.nodes}
        for node in self.nodes:
            for need in node.needs:
                after[need] += (node.name,)
        needs = {node.name: node.needs for node in self.nodes}
        before = {
            name: tuple(node for node in self.nodes if node.name in reached)
            for name, reached in ((name, _reached(needs, name)) for name in needs)
        }
        object.__setattr__(self, "after", after)
        object.__setattr__(self, "before", before)

    def called(self) -> tuple[Node, ...]:
        """All but the last."""
        return tuple(node for node in self.nodes if node is not self.last)


@dataclass(frozen=True)
class Workflow:
    """One file, expanded. `version` changes with every change of the file or of a workflow that it nests."""

    name: str
    description: str
    pattern: str
    model: str | None
    limits: Limits
    graph: Graph
    version: str

    @property
    def nested(self) -> tuple[str, ...]:
        return tuple(node.step.workflow for node in self.graph.nodes if node.step.workflow)


def _reached(needs: Mapping[str, Iterable[str]], start: str) -> set[str]:
    found: set[str] = set()
    todo = list(needs[start])
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += needs[name]
    return found


def cycle(needs: Mapping[str, Sequence[str]]) -> list[str] | None:
    """One path that comes back to where it began (its first name is also its last), if there is any.

    Names in `needs` that are no keys are ignored. Without recursion: a chain may be as long as a file.
    """
    over: set[str] = set()
    for start in needs:
        path: list[str] = []
        todo: list[tuple[str, bool]] = [(start, False)]
        while todo:
            name, leaving = todo.pop()
            if leaving:
                over.add(path.pop())
            elif name in path:
                return [*path[path.index(name) :], name]
            elif name not in over:
                path.append(name)
                todo.append((name, True))
                todo += [(need, False) for need in reversed(needs[name]) if need in needs]
    return None
