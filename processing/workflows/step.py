"""A step of preparation: whose model is `workflow:NAME` gets the prompt of that workflow's last step."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from processing.preparer import Prompt, Turn
from processing.workflows.asking import Asking, Calls, Tools
from processing.workflows.direct import Answered, chunks
from processing.workflows.engine import Run, Scene
from processing.workflows.graph import Workflow
from processing.workflows.record import Record
from processing.workflows.turns import Budget, Fan
from processing.workflows.view import Asked
from runtime.errors import NotFound

PREFIX: Final = "workflow:"


def asked_for(body: Mapping[str, Any]) -> str | None:
    """The name of the workflow that a request asks for."""
    model = body.get("model")
    return model.removeprefix(PREFIX) if isinstance(model, str) and model.startswith(PREFIX) else None


class WorkflowStep:
    """`show(turn, where)` hears of each step that starts, `told(turn, record)` of each run and its end."""

    name = "workflow"

    def __init__(
        self,
        workflows: Mapping[str, Workflow],
        calls: Calls,
        tools: Tools | None = None,
        *,
        show: Callable[[Turn, str], None] = lambda turn, where: None,
        told: Callable[[Turn, Record], None] = lambda turn, record: None,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._workflows = workflows
        self._calls = calls
        self._tools = tools
        self._show = show
        self._told = told
        self._uniform = uniform

    async def run(self, prompt: Prompt) -> Prompt:
        """Any other request is left alone. Raises PrepareFailed, or NotFound for an unknown name.

        An answer with a gap, or by a second choice, is not stored: the next request may get a whole one.
        """
        name = asked_for(prompt.body)
        if name is None:
            return prompt
        workflow = self._workflows.get(name)
        if workflow is None:
            raise NotFound("There is no such workflow.", param="model")
        with Fan(prompt.turn, Budget(workflow.limits.calls, name)) as fan:
            scene = Scene(
                Asking(self._calls, self._tools, fan, self._uniform),
                self._workflows,
                lambda where: self._show(prompt.turn, where),
            )
            run = Run(workflow, Asked(prompt.body["messages"], prompt.body), scene)
            try:
                prepared = await run.prepare()
            finally:
                self._told(prompt.turn, run.record)
        store = prompt.store and run.record.whole
        if prepared.step is not None:
            return replace(prompt, body=prepared.body, store=store)
        direct = chunks(PREFIX + name, prepared.pieces, run.record)
        return Answered(prompt.body, prompt.turn, store, prompt.ttl_s, direct)
