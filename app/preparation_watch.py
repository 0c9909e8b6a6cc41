"""What tools and workflow steps tell of themselves, as totals for `/pipeline` and as metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from processing.tools.results import Status
from processing.workflows.record import Record, StepRecord
from runtime.metrics import STEP_STATUSES, PreparationMetrics

if TYPE_CHECKING:
    from processing.workflows.graph import Workflow

#: Of a tool: calls that have ended, and those of them that took part in the run of another.
_NONE: Final = (0, 0)


class PreparationWatch:
    """An observer of the tools, and of workflows. Totals are since the start, `steps` are under way now."""

    def __init__(self, metrics: PreparationMetrics) -> None:
        self._metrics = metrics
        self._inner_shared = 0
        self._tools: dict[str, tuple[int, int]] = {}
        self.steps: Counter[str] = Counter()
        self.totals: dict[str, int] = {"tool_calls": 0, "tool_calls_shared": 0, "workflow_steps": 0}

    def expect(self, tools: Iterable[str], workflows: Iterable[Workflow]) -> None:
        """All that will ever be counted, but for tools that a model makes up."""
        steps = {each.name: [node.alias for node in each.graph.nodes] for each in workflows}
        self._metrics.expect(tools, steps)

    def calls(self, tool: str) -> tuple[int, int]:
        """That have ended, and how many of them were shared."""
        return self._tools.get(tool, _NONE)

    # -- tools --------------------------------------------------------------------------------
    def waited_for_a_slot(self, seconds: float) -> None:
        self._metrics.waited_for_a_slot(seconds)

    def started(self, tool: str, waited_s: float) -> None:
        self._metrics.tool_wait.labels(tool).observe(waited_s)

    def ended(self, tool: str, status: Status, ran_s: float, *, shared: bool) -> None:
        """A run that several share has run once, so its time counts once; of one that was cut, none does."""
        calls, with_others = self.calls(tool)
        self._tools[tool] = (calls + 1, with_others + shared)
        self.totals["tool_calls"] += 1
        self.totals["tool_calls_shared"] += shared
        self._metrics.tool_calls.labels(tool, str(status)).inc()
        if shared:
            self._metrics.tool_calls_shared.labels(tool).inc()
        elif status not in (Status.REFUSED, Status.CANCELLED):
            self._metrics.tool_seconds.labels(tool).observe(ran_s)

    # -- workflows ----------------------------------------------------------------------------
    def step_began(self, where: str) -> None:
        self.steps[where] += 1

    def step_ended(self, where: str) -> None:
        self.steps[where] -= 1
        if not self.steps[where]:
            del self.steps[where]

    def workflow_ended(self, record: Record) -> None:
        """Each of its steps, also those of the workflows that it runs, under the name of their own.

        A step is what the file calls it: all its rounds are one, or the labels would grow with them.
        """
        for step in record.steps:
            self._count(record.workflow, step)
            if step.inner is not None:
                self.workflow_ended(step.inner)

    def fell_back(self, workflow: str) -> None:
        """Its last step streams from the second model, which its record did not say when it was counted."""
        self._metrics.fallbacks.labels(workflow).inc()

    def _count(self, workflow: str, step: StepRecord) -> None:
        status = step.status if step.status in STEP_STATUSES else "skipped"  # cut off by a cancel
        self.totals["workflow_steps"] += 1
        self._metrics.workflow_steps.labels(workflow, step.alias, status).inc()
        self._metrics.workflow_calls.labels(workflow).inc(step.cost.calls)
        if step.fallback:
            self._metrics.fallbacks.labels(workflow).inc()
        if step.cost.calls:
            self._metrics.step_seconds.labels(workflow, step.alias).observe(step.cost.seconds)

    # -- calls of the model -------------------------------------------------------------------
    def inner_calls_shared(self, total: int) -> None:
        """So many by now."""
        self._metrics.inner_calls_shared.inc(total - self._inner_shared)
        self._inner_shared = total
