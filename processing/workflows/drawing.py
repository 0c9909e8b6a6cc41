"""A workflow as a picture: mermaid for pages, plain text for terminals. Pure functions of its graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from processing.workflows.graph import Node, Workflow

ALL: Final = "all results, in declared order"


def mermaid(workflow: Workflow) -> str:
    """A flowchart. A dashed arrow leads to a step that may find nothing to do."""
    return "\n".join(["flowchart TD", *(f"    {line}" for line in _chart(workflow))])


def text(workflow: Workflow) -> str:
    """One block per level: the steps of a block do not wait for each other."""
    graph = workflow.graph
    size = f"{len(graph.nodes)} steps, at most {workflow.limits.calls} calls before the answer"
    head = f"{workflow.name}: {workflow.pattern}, {size}"
    lines = [head, *([workflow.description] if workflow.description else []), ""]
    levels = _levels(workflow)
    names = max(len(node.name) for node in graph.nodes)
    asked = max(len(_asks(workflow, node)) for node in graph.nodes)
    for number in range(1, max(levels.values()) + 1):
        mark = f"{number:>2}"
        for node in graph.nodes:
            if levels[node.name] == number:
                said = (
                    f"{mark}  {node.name:<{names}}  {_asks(workflow, node):<{asked}}  {_rest(workflow, node)}"
                )
                lines.append(said.rstrip())
                mark = "  "
    if graph.last is None:
        lines.append(f"    answer: {ALL}")
    return "\n".join(lines)


def _chart(workflow: Workflow) -> Iterator[str]:
    graph = workflow.graph
    ids = {node.name: f"n{number}" for number, node in enumerate(graph.nodes)}
    yield "question([question])"
    for node in graph.nodes:
        label = _escaped(f"{node.name}<br>{_asks(workflow, node)}")
        shape = '(["{}"])' if node is graph.last else '[["{}"]]' if node.step.workflow else '["{}"]'
        yield ids[node.name] + shape.format(label)
    for node in graph.nodes:
        arrow = "-.->" if node.may_idle else "-->"
        for need in [ids[need] for need in node.needs] or ["question"]:
            yield f"{need} {arrow} {ids[node.name]}"
    if graph.last is None:
        yield f'answer(["{ALL}"])'
        yield from (f"{ids[node.name]} --> answer" for node in graph.nodes if not graph.after[node.name])


def _levels(workflow: Workflow) -> dict[str, int]:
    """How many steps are at least before it, itself counted."""
    graph = workflow.graph
    levels: dict[str, int] = {}
    for node in sorted(graph.nodes, key=lambda node: len(graph.before[node.name])):
        levels[node.name] = 1 + max((levels[need] for need in node.needs), default=0)
    return levels


def _asks(workflow: Workflow, node: Node) -> str:
    if node.step.workflow:
        return f"workflow:{node.step.workflow}"
    return node.step.model or workflow.model or "?"


def _rest(workflow: Workflow, node: Node) -> str:
    step = node.step
    facts = [
        f"after {', '.join(node.needs)}" if node.needs else "",
        "if there is work for it" if node.may_idle else "",
        f"with {', '.join(step.tools)}" if step.tools else "",
        f"{step.timeout_s:g} s" if step.timeout_s else "",
        f"tried {step.retries + 1} times" if step.retries else "",
        f"else {step.fallback}" if step.fallback else "",
        "fatal" if step.fatal else "",
        "streams" if node is workflow.graph.last else "",
    ]
    return " · ".join(filter(None, facts))


def _escaped(label: str) -> str:
    return label.replace("#", "#35;").replace('"', "#quot;")
