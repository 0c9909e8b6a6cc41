"""Preparation: a request becomes a prompt, by a row of steps. A plain proxied request has none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from admission import Admission


class Turn(Protocol):
    """Whose turn it is in every queue on the way. A step that waits says where, in `admission`, so that
    the place follows when the turn changes: who joins a waiting flight brings its own."""

    admission: Admission | None

    @property
    def order(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Prompt:
    """What goes upstream: `body` as the model gets it, and what preparation decided about caching.

    `ttl_s` None means the configured one; `turn` is whoever it is prepared for.
    """

    body: dict[str, Any]
    turn: Turn
    store: bool = True
    ttl_s: float | None = None


class Step(Protocol):
    """One step of preparation. `name` is what a waiting client sees as `preparing:<name>`."""

    name: str

    async def run(self, prompt: Prompt) -> Prompt:
        """Raises a GatewayError to fail the flight."""
        ...


class Preparer:
    """Runs the steps in order. Holds no permit of its own: its caller has the leaders permit."""

    def __init__(self, steps: Sequence[Step] = ()) -> None:
        self._steps = tuple(steps)

    @property
    def empty(self) -> bool:
        return not self._steps

    async def prepare(self, prompt: Prompt, on_step: Callable[[str], None]) -> Prompt:
        for step in self._steps:
            on_step(step.name)
            prompt = await step.run(prompt)
        return prompt


def with_messages(prompt: Prompt, messages: list[Any], model: str | None = None) -> Prompt:
    """The same prompt with other messages, and another model where one is given."""
    body = {**prompt.body, "messages": messages}
    if model is not None:
        body["model"] = model
    return replace(prompt, body=body)
