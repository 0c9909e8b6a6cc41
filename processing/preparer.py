"""Preparation: a request becomes a prompt, by a row of steps. A plain proxied request has none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from admission import Admission
from runtime.errors import PrepareFailed, UpstreamError
from upstream.chunk import Chunk


class Turn(Protocol):
    """Whose turn it is in every queue on the way. A step that waits says where, in `admission`, so that
    the place follows when the turn changes: who joins a waiting flight brings its own."""

    admission: Admission | None

    @property
    def order(self) -> float: ...


class DirectFailed(PrepareFailed):
    """Nothing came of a direct answer and nothing of it was shown: go on with its `otherwise`."""


class Direct(Protocol):
    """An answer that needs no call of the model. `otherwise` is the prompt for when it fails."""

    @property
    def otherwise(self) -> Prompt: ...

    def stream(self, turn: Turn) -> AbstractAsyncContextManager[AsyncIterator[list[Chunk]]]:
        """Lists of chunks, whose end is that of a complete answer. Raises DirectFailed on entering, and
        any GatewayError later.
        """
        ...


@dataclass(frozen=True, slots=True)
class Prompt:
    """What goes upstream: `body` as the model gets it, and what preparation decided about caching.

    `ttl_s` None means the configured one. Nobody joins later than `fresh_s` after the preparation; None: as
    long as it runs. `turn` is whoever it is prepared for, `tenant` whose key it came with, `asked` what the
    client's own body was, if that is another. `preface` are chunks of our own before the model's: what the
    preparation has to say of itself. `within_s` bounds the call beside the deadlines of every call;
    `otherwise` says what is asked, and after how many seconds, when it has failed for good without a word of
    an answer. It raises nothing; without it, or if it says None, the failure is the end.
    """

    body: dict[str, Any]
    turn: Turn
    store: bool = True
    ttl_s: float | None = None
    fresh_s: float | None = None
    tenant: str = ""
    asked: dict[str, Any] | None = None
    preface: tuple[Chunk, ...] = ()
    direct: Direct | None = None
    within_s: float | None = None
    otherwise: Callable[[UpstreamError], tuple[Prompt, float] | None] | None = None

    @property
    def question(self) -> dict[str, Any]:
        """What the client has asked: whoever has to prepare it again begins with that."""
        return self.body if self.asked is None else self.asked


class Step(Protocol):
    """One step of preparation. `name` is what a waiting client sees as `preparing:<name>`."""

    name: str

    def applies(self, body: Mapping[str, Any]) -> bool:
        """Whether there is anything to do for such a request."""
        ...

    async def run(self, prompt: Prompt) -> Prompt:
        """Raises a GatewayError to fail the flight."""
        ...


class Preparer:
    """Runs the steps in order. Holds no permit of its own: its caller has the leaders permit."""

    def __init__(self, steps: Sequence[Step] = ()) -> None:
        self._steps = tuple(steps)

    def applies(self, body: Mapping[str, Any]) -> bool:
        """Whether any step has anything to do; else the request goes to the model as it came."""
        return any(step.applies(body) for step in self._steps)

    async def prepare(self, prompt: Prompt, on_step: Callable[[str], None]) -> Prompt:
        """A step is asked when its turn comes: the one before may have changed the request."""
        question = prompt.body
        for step in self._steps:
            if step.applies(prompt.body):
                on_step(step.name)
                prompt = await step.run(prompt)
        return prompt if prompt.body is question else replace(prompt, asked=question)


def with_messages(prompt: Prompt, messages: list[Any], model: str | None = None) -> Prompt:
    """The same prompt with other messages, and another model where one is given."""
    body = {**prompt.body, "messages": messages}
    if model is not None:
        body["model"] = model
    return replace(prompt, body=body)
