"""What a step's templates see of the request and of the steps before it, and the messages they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from processing.workflows.graph import Node
from processing.workflows.record import StepRecord


@dataclass(frozen=True)
class Asked:
    """What a run is about. `body` has the parameters of the request, which are the last step's."""

    messages: list[Any]
    body: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def by_step(cls, question: str) -> Asked:
        """A nested run: its question is what the step above it says, and it knows nothing else."""
        return cls([{"role": "user", "content": question}])

    @property
    def question(self) -> str:
        """The text of the last user message; the text parts of one that has parts."""
        for message in reversed(self.messages):
            if isinstance(message, dict) and message.get("role") == "user":
                return _text(message.get("content"))
        return ""


def variables(
    node: Node,
    asked: Asked,
    before: tuple[Node, ...],
    records: Mapping[str, StepRecord],
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """Every variable that a template may use. `more` comes from the node's pattern."""
    results: dict[str, str] = {}
    missing: dict[str, str] = {}
    history: list[dict[str, Any]] = []
    for each in before:
        record = records[each.name]
        if record.idle:
            results.setdefault(each.alias, record.shown)
            continue
        results[each.alias] = record.shown
        missing.pop(each.alias, None)
        if record.gap:
            missing[each.alias] = record.why
        history.append({"name": each.alias, "round": each.round, "text": record.shown})
    question = asked.question
    found = {"question": question, "messages": asked.messages, "round": node.round, "task": question}
    return {**found, "inbox": [], "results": results, "missing": missing, "history": history, **more}


def messages(node: Node, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Raises TemplateFailed."""
    system = [node.told] if node.told else []
    if node.step.system is not None:
        system.append(node.step.system.fill(values))
    prompt = {"role": "user", "content": node.step.prompt.fill(values)}
    return [{"role": "system", "content": "\n\n".join(system)}, prompt] if system else [prompt]


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return "\n".join(text for text in texts if isinstance(text, str))
