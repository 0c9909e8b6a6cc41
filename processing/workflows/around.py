"""What a step has to fit into: timers that are longer than its own, and tools that run once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from processing.files.problems import Problem
from processing.files.source import Source
from processing.files.timers import UNBOUNDED, Outer
from processing.workflows.checks import Part, parts
from processing.workflows.graph import Workflow


@dataclass(frozen=True)
class Around:
    """What steps have to fit into: timers, and which tools are stateful."""

    prepare: Outer = UNBOUNDED
    stream: Outer = UNBOUNDED
    stateful: Collection[str] = ()


def around_problems(source: Source, around: Around) -> Iterator[Problem]:
    """What does not fit into what is around it, in any file with a pattern that there is."""
    found = parts(source)
    ends = _ends(source.value.get("pattern", "graph"), found)
    for part in found:
        yield from _twice(source, part, around.stateful)
        if part not in ends or part.raw.get("tools"):  # of the last, the rounds of its tools
            yield from _hidden(source, part, around.prepare)
        if [part] == ends:
            yield from _hidden(source, part, around.stream)


def _ends(pattern: str, found: list[Part]) -> list[Part]:
    """Of these one is the last; several, if the file does not tell which."""
    if pattern == "graph":
        needed = {need for part in found for need in part.needs}
        return [part for part in found if part.name not in needed] or found
    if pattern == "pipeline":
        return found[-1:]
    return [part for part in found if part.path == ("answer",)]


def _twice(source: Source, part: Part, stateful: Collection[str]) -> Iterator[Problem]:
    """A further try of a step would have the effect of its tools again."""
    tools = part.raw.get("tools")
    found = [tool for tool in stateful if tool in tools] if isinstance(tools, list) else []
    for field in ("retries", "fallback") if found else ():
        if part.raw.get(field):
            what = f"with the stateful {', '.join(sorted(found))} it is not run twice: no {field}"
            yield _at(source, part, field, what)


def _hidden(source: Source, part: Part, outer: Outer, why: str = "") -> Iterator[Problem]:
    time = part.raw.get("timeout_s")
    if isinstance(time, int | float) and (what := outer.hides(time)):
        yield _at(source, part, "timeout_s", f"{what}{why}")


def prepared_problems(
    workflows: Mapping[str, Workflow], sources: Mapping[str, Source], prepare: Outer
) -> Iterator[Problem]:
    """Whoever is nested before some last step is called whole: its own last step is no stream there."""
    for name, caller in _called_whole(workflows).items():
        last = workflows[name].graph.last
        for part in parts(sources[name]):
            if last is not None and not last.step.tools and part.name == last.alias:
                why = f", since {caller!r} calls this workflow before its answer"
                yield from _hidden(sources[name], part, prepare, why)


def _called_whole(workflows: Mapping[str, Workflow]) -> dict[str, str]:
    """By name, each with one that calls it so, however deep below."""
    found: dict[str, str] = {}
    todo = [(node.step.workflow, each.name) for each in workflows.values() for node in each.graph.called()]
    while todo:
        name, caller = todo.pop()
        if name is not None and name in workflows and name not in found:
            found[name] = caller
            todo += [(child, caller) for child in workflows[name].nested]
    return found


def _at(source: Source, part: Part, field: str, what: str) -> Problem:
    return source.problem(source.line((*part.path, field)), f"step {part.name!r}: {what}")
