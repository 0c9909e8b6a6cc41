"""Runs a graph: a step starts when all it needs are over, and whatever can run, runs at the same time.

Everything runs in the flight's task and in task groups below it; cancelling the flight ends all of it. State:
the records of the steps and `_left`, changed only by `_advance`, `_settle` and `_stop`, none of which awaits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from processing.workflows.asking import Asking
from processing.workflows.form import Step
from processing.workflows.graph import Idle, Node, Workflow
from processing.workflows.record import Record, Status, StepRecord
from processing.workflows.template import TemplateFailed
from processing.workflows.turns import TooManyCalls
from processing.workflows.view import Asked, messages, variables
from runtime.errors import GatewayError, PrepareFailed


@dataclass(frozen=True)
class Scene:
    """What a run and all that it nests share. `show` is told `workflow/<step>` when a step starts, `over`
    when it ends.
    """

    asking: Asking
    library: Mapping[str, Workflow]
    show: Callable[[str], None] = field(default=lambda step: None)
    over: Callable[[str], None] = field(default=lambda step: None)

    @contextmanager
    def under_way(self, step: str) -> Iterator[None]:
        self.show(step)
        try:
            yield
        finally:
            self.over(step)


@dataclass(frozen=True)
class Last:
    """The last step of `workflow`, not run yet: `body` is what a model is to answer, `where` is told then.

    `above` are the steps that are this workflow, or one that ends with it: they end as it does.
    """

    workflow: str
    step: Step
    record: StepRecord
    body: dict[str, Any]
    where: str
    above: tuple[StepRecord, ...] = ()

    def now(self, status: Status, why: str) -> None:
        for record in (self.record, *self.above):
            record.status, record.why = status, why


@dataclass(frozen=True)
class Whole:
    """An answer that needs no last step: what each of them said, in declared order."""

    pieces: tuple[str, ...]

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class Run:
    """One run of one workflow. `record` can be read at any time."""

    def __init__(self, workflow: Workflow, asked: Asked, scene: Scene, path: str = "workflow") -> None:
        self._workflow = workflow
        self._graph = workflow.graph
        self._asked = asked
        self._scene = scene
        self._path = path
        self._left = {node.name: len(node.needs) for node in self._graph.nodes}
        self._nodes = {node.name: node for node in self._graph.nodes}
        self._records = {node.name: StepRecord(node.name, node.alias) for node in self._graph.nodes}
        self._tasks: set[asyncio.Task[None]] = set()
        self._end: Exception | None = None
        self.record = Record(workflow.name, workflow.version, list(self._records.values()))

    async def prepare(self) -> Last | Whole:
        """Everything but the last step. Raises PrepareFailed if that cannot be asked any more."""
        try:
            async with asyncio.TaskGroup() as self._group:
                self._advance([node for node in self._graph.nodes if not node.needs])
            if self._end is not None:
                raise self._end
            return await self._last()
        finally:
            for record in self._records.values():
                if not record.over and record.status != "streams":
                    record.status, record.why = "skipped", "the run ended before it did"

    def _advance(self, ready: Iterable[Node]) -> None:
        """Start them; those that are skipped are over at once, which may make others ready."""
        todo = deque(ready)
        while todo:
            node = todo.popleft()
            if node is self._graph.last:
                continue
            if not self._skipped(node):
                task = self._group.create_task(self._run(node), name=f"{self._path}/{node.name}")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            else:
                todo += self._settled(node)

    def _settled(self, node: Node) -> list[Node]:
        """It is over: those that waited for nothing else."""
        ready = []
        for name in self._graph.after[node.name]:
            self._left[name] -= 1
            if self._left[name] == 0:
                ready.append(self._nodes[name])
        return ready

    def _skipped(self, node: Node) -> bool:
        """Not run if all that it needs has failed: an answer made of nothing would be a false one."""
        record = self._records[node.name]
        needs = [self._records[need] for need in node.needs]
        if needs and not any(need.status == "done" for need in needs):
            record.status = "skipped"
            record.idle = all(need.idle for need in needs)
            record.why = "nothing to do" if record.idle else "nothing that it needs is there"
        elif isinstance(inputs := self._inputs(node), Idle):
            record.status, record.idle, record.why = "skipped", True, inputs.why
        return record.over

    def _inputs(self, node: Node) -> Mapping[str, Any] | Idle:
        return node.inputs({name: each.raw for name, each in self._records.items() if each.status == "done"})

    async def _run(self, node: Node) -> None:
        """Never raises but for cancellation: siblings go on, whatever happens here."""
        record = self._records[node.name]
        try:
            await self._perform(node, record)
            if record.status == "failed" and node.step.fatal:
                self._stop(self._failure(node, record))
            else:
                self._advance(self._settled(node))
        except Exception as error:  # a bound of the whole run, or a fault of ours
            spent = isinstance(error, TooManyCalls)
            record.why = "no calls were left" if spent else getattr(error, "code", "internal_error")
            record.status = "failed"
            self._stop(error)

    def _stop(self, error: Exception) -> None:
        """The flight fails: what still runs is for nobody."""
        self._end = self._end or error
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()

    async def _perform(self, node: Node, record: StepRecord) -> None:
        """Leaves `record` done or failed."""
        record.status = "running"
        try:
            with self._scene.under_way(f"{self._path}/{node.name}"):
                asked = messages(node, self._values(node))
                text = await (self._nested if node.step.workflow else self._called)(node, asked, record)
        except TemplateFailed as failed:
            text, record.why = None, f"template: {failed}"
        if text is None:
            record.status = "failed"
            return
        record.raw = text
        record.text, note = node.clean(text)
        record.why = "; ".join(filter(None, (record.why, note)))
        record.status = "done"

    async def _called(self, node: Node, asked: list[dict[str, Any]], record: StepRecord) -> str | None:
        return await self._scene.asking.answer(node.step, self._model(node), asked, record)

    async def _nested(self, node: Node, asked: list[dict[str, Any]], record: StepRecord) -> str | None:
        """The whole workflow below, its last step too: here it is one answer among others."""
        child = self._child(node, Asked.by_step(asked[-1]["content"]), record)
        try:
            prepared = await child.prepare()
            if isinstance(prepared, Whole):
                return prepared.text
            last, body = prepared.record, prepared.body
            prepared.now("running", "")
            with self._scene.under_way(prepared.where):
                text = await self._scene.asking.answer(prepared.step, body["model"], body["messages"], last)
        except TooManyCalls:
            raise
        except GatewayError as error:
            record.why = error.message
            return None
        prepared.now("failed" if text is None else "done", last.why)
        last.text = text or ""
        record.why = f"its last step: {last.why}" if text is None else ""
        return text

    def _child(self, node: Node, asked: Asked, record: StepRecord) -> Run:
        workflow = self._scene.library[str(node.step.workflow)]
        child = Run(workflow, asked, self._scene, f"{self._path}/{node.name}")
        record.inner = child.record
        return child

    async def _last(self) -> Last | Whole:
        """The prompt of the answer; without a last step, the answer."""
        node = self._graph.last
        if node is None:
            return self._all()
        record = self._records[node.name]
        if self._skipped(node):
            raise self._failure(node, record)
        try:
            asked = messages(node, self._values(node))
        except TemplateFailed as failed:
            record.status, record.why = "failed", f"template: {failed}"
            raise self._failure(node, record) from None
        if node.step.workflow:
            return await self._ending(node, asked[-1]["content"], record)
        record.status = "streams"
        body = {**self._asked.body, **node.step.parameters, "model": self._model(node), "messages": asked}
        return Last(self._workflow.name, node.step, record, body, f"{self._path}/{node.name}")

    async def _ending(self, node: Node, question: str, record: StepRecord) -> Last | Whole:
        """Of a last step that runs a workflow, the last step of that one."""
        record.status = "running"
        child = self._child(node, Asked(Asked.by_step(question).messages, self._asked.body), record)
        try:
            found = await child.prepare()
        except TooManyCalls:
            record.status, record.why = "failed", "no calls were left"
            raise
        except GatewayError as error:
            record.status, record.why = "failed", error.message
            raise
        if isinstance(found, Whole):
            record.status = "done"
            return found
        record.status = "streams"
        return replace(found, above=(*found.above, record))

    def _all(self) -> Whole:
        """Every result under its name, in declared order; a missing one is said to be missing."""
        records = list(self._records.values())
        if not any(record.status == "done" for record in records):
            raise self._failure(self._graph.nodes[0], records[0])
        return Whole(tuple(f"## {record.alias}\n\n{record.shown}\n\n" for record in records))

    def _values(self, node: Node) -> dict[str, Any]:
        inputs = self._inputs(node)
        assert not isinstance(inputs, Idle)
        return variables(node, self._asked, self._graph.before[node.name], self._records, inputs)

    def _model(self, node: Node) -> str:
        model = node.step.model or self._workflow.model
        assert model is not None  # checked when the file was read
        return model

    def _failure(self, node: Node, record: StepRecord) -> PrepareFailed:
        what = f"The workflow {self._workflow.name!r} stopped at its step {node.name!r}: {record.why}."
        return PrepareFailed(what, retryable=not record.final)
