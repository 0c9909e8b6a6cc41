"""One planning call before the answer: the plan becomes a system message of the prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from processing.caller import Caller
from processing.calls import ModelCalls
from processing.preparer import Prompt, with_messages
from processing.workflows.naming import asked_for

INSTRUCTION = (
    "Write a short plan for answering the conversation: the steps to take, in order. Do not answer it."
)
PREFIX = "Plan for this answer:\n"


class PlanningStep:
    """Asks `model` how to answer, by one call."""

    name = "planning"

    def __init__(self, model: str, calls: ModelCalls, who: Callable[[Prompt], Caller]) -> None:
        self._model = model
        self._calls = calls
        self._who = who

    def applies(self, body: Mapping[str, Any]) -> bool:
        """A workflow is its own plan."""
        return asked_for(body) is None

    async def run(self, prompt: Prompt) -> Prompt:
        messages: list[Any] = prompt.body["messages"]
        asked = [{"role": "system", "content": INSTRUCTION}, *messages]
        body = {"model": self._model, "messages": asked}
        plan = await self._calls.ask(prompt.turn, body, self._who(prompt).scope)
        return with_messages(prompt, [{"role": "system", "content": PREFIX + plan.text}, *messages])
