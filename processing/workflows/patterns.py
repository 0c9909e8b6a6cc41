"""The patterns: short forms of a graph, written out when the file is read. No pattern has an engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from processing.workflows.form import (
    Agent,
    DebateFile,
    ForkJoinFile,
    GraphFile,
    HubFile,
    ParallelFile,
    PipelineFile,
    PublishFile,
    Step,
    Worker,
)
from processing.workflows.graph import Graph, Idle, Node, Said
from processing.workflows.replies import NOT_PUBLISHED, NOT_UNDERSTOOD, assignments, publications

QUESTION: Final = "question"


def expand(file: Any) -> Graph:
    """The graph of a file that has been checked."""
    return _EXPAND[type(file)](file)


def _graph(file: GraphFile) -> Graph:
    nodes = tuple(Node(step.name, step, step.depends_on) for step in file.steps)
    needed = {need for node in nodes for need in node.needs}
    (last,) = (node for node in nodes if node.name not in needed)
    return Graph(nodes, last)


def _pipeline(file: PipelineFile) -> Graph:
    nodes: list[Node] = []
    for step in file.steps:
        nodes.append(Node(step.name, step, _names(nodes[-1:])))
    return Graph(tuple(nodes), nodes[-1])


def _parallel(file: ParallelFile) -> Graph:
    return Graph(tuple(Node(step.name, step) for step in file.steps), None)


def _fork_join(file: ForkJoinFile) -> Graph:
    return _joined([Node(step.name, step) for step in file.branches], file.answer)


def _debate(file: DebateFile) -> Graph:
    nodes: list[Node] = []
    before: list[Node] = []
    for round in range(1, file.rounds + 1):
        needs = _names(before)
        before = [Node(_at(step, round), step, needs, round) for step in file.debaters]
        nodes += before
    return _joined(nodes, file.answer, before)


def _hub_and_spoke(file: HubFile) -> Graph:
    names = tuple(worker.name for worker in file.workers)
    hub = Node(
        file.coordinator.name,
        file.coordinator,
        clean=partial(_assigned, names),
        told=_hand_out(file.workers),
    )
    spokes = [
        Node(worker.name, worker, (hub.name,), inputs=partial(_task, hub.name, names, worker.name))
        for worker in file.workers
    ]
    # Not the coordinator: its plan alone is nothing that could be answered from.
    return _joined([hub, *spokes], file.answer, spokes)


def _publish_subscribe(file: PublishFile) -> Graph:
    nodes: list[Node] = []
    before: list[Node] = []
    told = _publish(sorted({topic for agent in file.agents for topic in agent.topics} - {QUESTION}))
    for round in range(1, file.rounds + 1):
        before = [
            Node(
                _at(agent, round),
                agent,
                _names(before),
                round,
                inputs=partial(_inbox, agent, tuple((node.name, node.alias) for node in before)),
                clean=_published,
                told=told,
            )
            for agent in file.agents
        ]
        nodes += before
    return _joined(nodes, file.answer)


def _joined(nodes: Sequence[Node], answer: Step, needs: Iterable[Node] | None = None) -> Graph:
    last = Node(answer.name, answer, _names(nodes if needs is None else needs))
    return Graph((*nodes, last), last)


def _names(nodes: Iterable[Node]) -> tuple[str, ...]:
    return tuple(node.name for node in nodes)


def _at(step: Step, round: int) -> str:
    """No name in a file has an `@`: what is generated never meets what is written."""
    return f"{step.name}@{round}"


# -- hub and spoke --------------------------------------------------------------------------
def _hand_out(workers: Sequence[Worker]) -> str:
    listed = "\n".join(f"- {worker.name}: {worker.does}" for worker in workers)
    return (
        "You hand out work and do none of it. These are the workers:\n"
        f"{listed}\n"
        'Reply with nothing but a JSON list: [{"worker": NAME, "task": WHAT IT SHALL DO}]. '
        "Leave out whoever is not needed."
    )


def _assigned(workers: Sequence[str], text: str) -> tuple[str, str]:
    return text, "" if assignments(text, workers) is not None else NOT_UNDERSTOOD


def _task(hub: str, workers: Sequence[str], worker: str, said: Said) -> Mapping[str, Any] | Idle:
    tasks = assignments(said.get(hub, ""), workers)
    if tasks is None:
        return {}
    return {"task": tasks[worker]} if worker in tasks else Idle("it was given no task")


# -- publish and subscribe ------------------------------------------------------------------
def _publish(topics: Sequence[str]) -> str:
    return (
        'Reply with nothing but a JSON list: [{"topic": TOPIC, "text": WHAT YOU PUBLISH}]. An empty list '
        f"publishes nothing. Topics that somebody listens to: {', '.join(topics) or 'none'}."
    )


def _published(text: str) -> tuple[str, str]:
    published = publications(text)
    if published is None:
        return text, NOT_PUBLISHED
    return "\n".join(f"{topic}: {said}" for topic, said in published), ""


def _inbox(agent: Agent, before: Sequence[tuple[str, str]], said: Said) -> Mapping[str, Any] | Idle:
    """In the first round the question is the only topic; later all that others published the round before."""
    if not before:
        return {} if QUESTION in agent.topics else Idle("nobody has published one of its topics")
    inbox = [
        {"from": alias, "topic": topic, "text": text}
        for name, alias in before
        if alias != agent.name
        for topic, text in publications(said.get(name, "[]")) or ()
        if topic in agent.topics
    ]
    return {"inbox": inbox} if inbox else Idle("nobody has published one of its topics")


_EXPAND: Final[dict[type, Callable[[Any], Graph]]] = {
    GraphFile: _graph,
    PipelineFile: _pipeline,
    ParallelFile: _parallel,
    ForkJoinFile: _fork_join,
    DebateFile: _debate,
    HubFile: _hub_and_spoke,
    PublishFile: _publish_subscribe,
}
