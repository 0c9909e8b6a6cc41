"""What can be wrong with a file whose parts are right: names, needs, cycles, the end, and what is nested.

The first checks read the raw values, so that they find their problems also in a file that has others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from processing.files.problems import Problem
from processing.files.source import Path, Source
from processing.workflows.form import OF_A_CALL, PARTS, Limits, Step
from processing.workflows.graph import Graph, Workflow, cycle
from processing.workflows.naming import PREFIX
from processing.workflows.template import Template, TemplateProblem


@dataclass(frozen=True)
class Part:
    """A step as it stands in the file, right or wrong."""

    path: Path
    raw: Mapping[str, Any]

    @property
    def name(self) -> Any:
        return self.raw.get("name")

    @property
    def needs(self) -> list[str]:
        needs = self.raw.get("depends_on")
        return [need for need in needs if isinstance(need, str)] if isinstance(needs, list) else []


def parts(source: Source) -> list[Part]:
    """Everything in the file that is meant to be a step."""
    found = []
    for field in PARTS:
        value = source.value.get(field)
        if isinstance(value, list):
            found += [Part((field, number), raw) for number, raw in enumerate(value) if isinstance(raw, dict)]
        elif isinstance(value, dict):
            found.append(Part((field,), value))
    return found


def raw_problems(source: Source) -> Iterator[Problem]:
    """Everything that can be told without the file being right otherwise."""
    found = parts(source)
    yield from source.repeated()
    yield from _names(source, found)
    if source.value.get("pattern", "graph") == "graph":
        yield from _needs(source, found)
    yield from _mentions(source, found)
    yield from _of_another(source, found)


def _of_another(source: Source, found: list[Part]) -> Iterator[Problem]:
    for part in found:
        if "workflow" in part.raw:
            for field in sorted(OF_A_CALL & part.raw.keys()):
                what = f"step {part.name!r} runs a workflow: {field!r} is for the steps of that one"
                yield _at(source, part, field, what)


def _names(source: Source, found: list[Part]) -> Iterator[Problem]:
    seen = Counter[str]()
    for part in found:
        if isinstance(part.name, str):
            seen[part.name] += 1
            if seen[part.name] > 1:
                yield _at(source, part, "name", f"two steps are called {part.name!r}")


def _needs(source: Source, found: list[Part]) -> Iterator[Problem]:
    needs: dict[str, list[str]] = {}
    for part in found:
        if isinstance(part.name, str):
            needs.setdefault(part.name, []).extend(part.needs)
    for part in found:
        for number, need in enumerate(part.needs):
            if need not in needs:
                line = source.line((*part.path, "depends_on", number))
                yield source.problem(line, f"step {part.name!r} needs {need!r}, which there is not")
    if circle := cycle(needs):
        first = next(part for part in found if part.name == circle[0])
        yield _at(source, first, "depends_on", f"a cycle: {' needs '.join(circle)}")
        return
    yield from _one_last(source, needs)


def _one_last(source: Source, needs: Mapping[str, list[str]]) -> Iterator[Problem]:
    needed = {need for each in needs.values() for need in each}
    ends = [name for name in needs if name not in needed]
    if len(ends) > 1:
        said = ", ".join(map(repr, ends))
        what = f"no last step: {said} are needed by none; one step must need all the others, directly or not"
        yield source.problem(source.line(("steps",)), what)


def _mentions(source: Source, found: list[Part]) -> Iterator[Problem]:
    names = {part.name for part in found}
    for part in found:
        for mentioned, line in _mentioned(source, part):
            if mentioned not in names:
                yield source.problem(line, f"template: results has no {mentioned!r}: no step is called so")


def _mentioned(source: Source, part: Part) -> Iterator[tuple[str, int]]:
    for field in ("system", "prompt"):
        text = part.raw.get(field)
        if isinstance(text, str):
            try:
                mentions = Template(text).mentions
            except TemplateProblem:
                continue
            path = (*part.path, field)
            yield from ((name, source.text_line(path, line)) for name, line in mentions)


def graph_problems(
    source: Source, graph: Graph, model: str | None, tools: Collection[str] | None
) -> Iterator[Problem]:
    """Of a file whose shape is right: who reads whom, which models and tools, what the last step says."""
    where = {part.name: part for part in parts(source)}
    seen: set[tuple[str, int]] = set()
    for node in graph.nodes:
        part, step = where[node.alias], node.step
        before = {each.alias for each in graph.before[node.name]}
        last_round = all(other.round <= node.round for other in graph.nodes if other.alias == node.alias)
        for mentioned, line in _mentioned(source, part) if last_round else ():
            if mentioned in where and mentioned not in before and (mentioned, line) not in seen:
                seen.add((mentioned, line))
                what = f"template: {mentioned!r} is not over when {node.alias!r} starts: it must need it"
                yield source.problem(line, what)
        yield from _models(source, part, step, model)
        if tools is not None:
            yield from _tools(source, part, step, tools)
    if graph.last is not None:
        yield from _last_problems(source, where[graph.last.alias])


def _tools(source: Source, part: Part, step: Step, tools: Collection[str]) -> Iterator[Problem]:
    for number, tool in enumerate(step.tools):
        if tool not in tools:
            line = source.line((*part.path, "tools", number))
            yield source.problem(line, f"step {part.name!r} uses the tool {tool!r}, which there is not")


def _models(source: Source, part: Part, step: Step, model: str | None) -> Iterator[Problem]:
    if not (step.workflow or step.model or model):
        yield _at(source, part, "name", f"step {part.name!r} has no model, and neither has the workflow")
    for field, named in (("model", step.model), ("fallback", step.fallback)):
        if (named or "").startswith(PREFIX):  # the upstream would be asked for it, and has none
            what = f"step {part.name!r}: {field} names no model but a workflow: its field is 'workflow'"
            yield _at(source, part, field, what)


def _last_problems(source: Source, part: Part) -> Iterator[Problem]:
    if part.raw.get("fatal") is False:
        yield _at(source, part, "fatal", "the last step is the answer: its failure is always fatal")


def nesting_problems(workflows: Mapping[str, Workflow], sources: Mapping[str, Source]) -> Iterator[Problem]:
    """Across files: who nests whom, and how deep."""
    nested = {name: workflow.nested for name, workflow in workflows.items()}
    for source in sources.values():
        for part in parts(source):
            child = part.raw.get("workflow")
            if isinstance(child, str) and child not in sources:
                yield _at(source, part, "workflow", f"there is no workflow {child!r}")
    if circle := cycle(nested):
        source = sources[circle[0]]
        yield source.problem(_line_of_child(source, circle[1]), f"a cycle: {' nests '.join(circle)}")
        return
    for name, workflow in workflows.items():
        yield from _too_deep(sources[name], workflow.limits, _deepest(name, nested))


def _too_deep(source: Source, limits: Limits, chain: list[str]) -> Iterator[Problem]:
    if len(chain) - 1 > limits.depth:
        what = f"nested {len(chain) - 1} deep ({' nests '.join(chain)}), and its limit is {limits.depth}"
        yield source.problem(_line_of_child(source, chain[1]), what)


def _deepest(name: str, nested: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The longest chain of workflows that begins with `name`; there is no cycle."""
    best: dict[str, list[str]] = {}
    todo = [name]
    while todo:
        current = todo[-1]
        children = [child for child in nested[current] if child in nested]
        open_ones = [child for child in children if child not in best]
        if open_ones:
            todo += open_ones
            continue
        best[current] = [current, *max((best[child] for child in children), key=len, default=[])]
        todo.pop()
    return best[name]


def _line_of_child(source: Source, child: str) -> int:
    for part in parts(source):
        if part.raw.get("workflow") == child:
            return source.line((*part.path, "workflow"))
    return 1


def _at(source: Source, part: Part, field: str, what: str) -> Problem:
    return source.problem(source.line((*part.path, field)), what)
