"""What a run was: every step in declared order, how it ended and what it cost. Nothing is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

#: Of so many steps a sentence tells.
_TOLD: Final = 20
Status = Literal["waiting", "running", "done", "failed", "skipped", "streams"]


@dataclass(slots=True)
class Cost:
    """`calls` with retries, continuations and rounds of tools. `seconds` have no waiting in them.

    A step that runs a workflow has no cost of its own: the steps of that one have.
    """

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    queued_s: float = 0.0

    def add(self, usage: dict[str, Any] | None) -> None:
        """What a model says that it used; whatever is no number counts as nothing."""
        if usage is not None:
            self.prompt_tokens += _number(usage.get("prompt_tokens"))
            self.completion_tokens += _number(usage.get("completion_tokens"))


@dataclass(slots=True)
class StepRecord:
    """`why` says what was missing, wrong or unusual; never a prompt or an answer.

    `model` is the one that answered; `fallback` that it was not the first choice. `idle`: it was skipped
    because there was nothing to do, which is no gap.
    """

    name: str
    alias: str
    status: Status = "waiting"
    text: str = field(default="", repr=False)
    raw: str = field(default="", repr=False)  #: as the model said it
    why: str = ""
    model: str | None = None
    fallback: bool = False
    idle: bool = False
    final: bool = False  #: the same request would fail in the same way
    cost: Cost = field(default_factory=Cost)
    inner: Record | None = None

    @property
    def over(self) -> bool:
        return self.status in ("done", "failed", "skipped")

    @property
    def gap(self) -> bool:
        """Something that was asked for is not there."""
        return self.status == "failed" or (self.status == "skipped" and not self.idle)

    @property
    def shown(self) -> str:
        """Its text, or what templates and readers see in its place."""
        if self.status == "done":
            return self.text
        return f"[{'not asked' if self.idle else 'missing'}: {self.alias}: {self.why}]"


@dataclass(slots=True)
class Record:
    """One run of one workflow."""

    workflow: str
    version: str
    steps: Sequence[StepRecord]

    @property
    def whole(self) -> bool:
        """Nothing is missing and nothing was answered by a second choice, here and in nested runs."""
        return not any(
            step.gap or step.fallback or (step.inner is not None and not step.inner.whole)
            for step in self.steps
        )

    @property
    def calls(self) -> int:
        return sum(step.cost.calls + (step.inner.calls if step.inner else 0) for step in self.steps)

    def told(self) -> str:
        """Every step in one sentence, in order, for an error that has no other place for it."""
        steps = [f"{step.name} {step.status}" + (f" ({step.why})" if step.why else "") for step in self.steps]
        more = f"; and {len(steps) - _TOLD} more" if len(steps) > _TOLD else ""
        return f"Steps: {'; '.join(steps[:_TOLD])}{more}."

    def summary(self) -> dict[str, Any]:
        """As JSON, without any text of a prompt or an answer."""
        return {
            "workflow": self.workflow,
            "version": self.version,
            "steps": [_summary(step) for step in self.steps],
        }


def _summary(step: StepRecord) -> dict[str, Any]:
    cost = step.cost
    found: dict[str, Any] = {
        "step": step.name,
        "status": step.status,
        "why": step.why,
        "model": step.model,
        "fallback": step.fallback,
        "calls": cost.calls,
        "prompt_tokens": cost.prompt_tokens,
        "completion_tokens": cost.completion_tokens,
        "seconds": round(cost.seconds, 3),
        "queued_s": round(cost.queued_s, 3),
    }
    if step.inner is not None:
        found["inner"] = step.inner.summary()
    return {
        name: value
        for name, value in found.items()
        if value is not None and value is not False and value != ""
    }


def _number(value: Any) -> int:
    return value if type(value) is int and value > 0 else 0
