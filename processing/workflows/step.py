"""A step of preparation: whose model is `workflow:NAME` gets the prompt of that workflow's last step."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from processing.account import preface
from processing.caller import Caller
from processing.calls import Reply
from processing.preparer import Prompt, Turn
from processing.ready import Ready
from processing.workflows.asking import Asking, Calls, Said, Tools
from processing.workflows.direct import chunks
from processing.workflows.engine import Last, Run, Scene, Whole
from processing.workflows.graph import Workflow
from processing.workflows.last import LastStep, rounds
from processing.workflows.naming import PREFIX, asked_for
from processing.workflows.record import Record
from processing.workflows.turns import Budget, Fan
from processing.workflows.view import Asked
from runtime.errors import PrepareFailed


class Bound(Tools, Protocol):
    """The tools of one run, which remembers what was used of them."""

    def bounded(self, prompt: Prompt) -> Prompt:
        """What the use of them makes of caching, and an account of it."""
        ...


class NoTools:
    """There are none."""

    async def ask(self, turn: Turn, body: Mapping[str, Any], names: Sequence[str]) -> Reply:
        raise AssertionError("a step names a tool, and there are none")

    async def before(
        self, turn: Turn, body: Mapping[str, Any], names: Sequence[str], usages: list[dict[str, Any]]
    ) -> Said:
        raise AssertionError("a step names a tool, and there are none")

    def bounded(self, prompt: Prompt) -> Prompt:
        return prompt


class WorkflowStep:
    """`who` says for whom a prompt is prepared, `tools` gives each run its own.

    `show(turn, where)` hears of each step that starts, `over(turn, where)` of its end, `told(turn, record)`
    of each run, when its preparation is over, `fell_back(workflow)` of a second choice after that.
    """

    name = "workflow"

    def __init__(
        self,
        workflows: Mapping[str, Workflow],
        calls: Calls,
        who: Callable[[Prompt], Caller],
        tools: Callable[[Caller], Bound] = lambda caller: NoTools(),
        *,
        show: Callable[[Turn, str], None] = lambda turn, where: None,
        over: Callable[[Turn, str], None] = lambda turn, where: None,
        told: Callable[[Turn, Record], None] = lambda turn, record: None,
        fell_back: Callable[[str], None] = lambda workflow: None,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._workflows = workflows
        self._calls = calls
        self._who = who
        self._tools = tools
        self._show = show
        self._over = over
        self._told = told
        self._fell_back = fell_back
        self._uniform = uniform

    def applies(self, body: Mapping[str, Any]) -> bool:
        return asked_for(body) is not None

    async def run(self, prompt: Prompt) -> Prompt:
        """Raises PrepareFailed.

        An answer with a gap, or by a second choice, is not stored: the next request may get a whole one.
        """
        name = str(asked_for(prompt.body))
        workflow = self._workflows.get(name)
        if workflow is None:
            # Only a hook can have chosen it: a client's is looked up before anything is done.
            raise PrepareFailed(f"There is no workflow {name!r}.", retryable=False)
        caller = self._who(prompt)
        tools = self._tools(caller)
        with Fan(prompt.turn, Budget(workflow.limits.calls, name)) as fan:
            asking = Asking(self._calls, tools, fan, caller.scope, self._uniform)
            scene = Scene(
                asking,
                self._workflows,
                lambda where: self._show(prompt.turn, where),
                lambda where: self._over(prompt.turn, where),
            )
            run = Run(workflow, Asked(prompt.body["messages"], prompt.body), scene)
            try:
                prepared = await run.prepare()
                answer = await self._answer(prompt, prepared, scene)
            except PrepareFailed as error:
                what = f"{error.message} {run.record.told()}"
                raise PrepareFailed(what, retryable=error.retryable) from error
            finally:
                self._told(prompt.turn, run.record)

        def told(prompt: Prompt) -> Prompt:
            account = preface(PREFIX + name, {"workflow": run.record.summary()}, prompt.preface)
            return replace(prompt, store=prompt.store and run.record.whole, preface=(account,))

        answer = tools.bounded(answer)
        if isinstance(prepared, Whole):
            answer = told(answer)
            return replace(answer, direct=Ready(chunks(PREFIX + name, prepared.pieces, run.record), answer))
        if answer.direct is not None:
            return told(answer)
        fell_back = partial(self._fell_back, prepared.workflow)
        return LastStep(prepared.step, prepared.record, answer, told, asking.back_off, fell_back).prompt()

    async def _answer(self, prompt: Prompt, prepared: Last | Whole, scene: Scene) -> Prompt:
        """The prompt of the last step, with the answer where its tools have led to one."""
        if isinstance(prepared, Whole):
            return prompt
        if not prepared.step.tools:
            return replace(prompt, body=prepared.body)
        with scene.under_way(prepared.where):
            return await rounds(prepared, prompt, scene.asking)
