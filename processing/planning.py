"""One planning call before the answer: the plan becomes a system message of the prompt."""

from __future__ import annotations

from typing import Any

from processing.calls import ModelCalls
from processing.preparer import Prompt, with_messages

INSTRUCTION = (
    "Write a short plan for answering the conversation: the steps to take, in order. Do not answer it."
)
PREFIX = "Plan for this answer:\n"


class PlanningStep:
    """Asks `model` how to answer, by one call."""

    name = "planning"

    def __init__(self, model: str, calls: ModelCalls) -> None:
        self._model = model
        self._calls = calls

    async def run(self, prompt: Prompt) -> Prompt:
        messages: list[Any] = prompt.body["messages"]
        asked = [{"role": "system", "content": INSTRUCTION}, *messages]
        plan = await self._calls.ask(prompt.turn, {"model": self._model, "messages": asked})
        return with_messages(prompt, [{"role": "system", "content": PREFIX + plan.text}, *messages])
