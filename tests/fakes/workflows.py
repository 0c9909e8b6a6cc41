"""Workflows on a played model whose calls take time, and a step that runs them as the gateway would.

What a call says is scripted by the text of its last message; without a script it says `<prompt>!`.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from textwrap import dedent
from typing import Any, cast

from admission import Stage
from processing.caller import Caller
from processing.calls import ModelCalls, Reply
from processing.preparer import Prompt, Turn, with_messages
from processing.ready import Ready, chunks
from processing.workflows.asking import Said
from processing.workflows.graph import Workflow
from processing.workflows.loading import read
from processing.workflows.record import Record, StepRecord
from processing.workflows.step import WorkflowStep
from runtime.errors import UpstreamRejected
from runtime.supervisor import Supervisor
from tests.fakes.invariants import assert_free
from tests.fakes.model import Call, FakeModel, finish
from tests.fakes.turn import FakeTurn
from upstream.chunk import parse_chunk
from upstream.client import ModelClient
from upstream.retry import RetryPolicy

#: How long an answer holds for which `RoundTools` were asked.
TOLD_S = 33.0


class Cut(str):
    """An answer that the token limit cuts."""


class TimedModel(FakeModel):
    """Every call takes `takes_s`, or `takes[prompt]`. `says[prompt]` are its next answers, or errors."""

    def __init__(self) -> None:
        super().__init__()
        self.takes_s = 1.0
        self.takes: dict[str, float] = {}
        self.says: defaultdict[str, list[str | Exception]] = defaultdict(list)

    async def _connect(self, call: Call) -> None:
        prompt = call.prompt.removeprefix("plan:")
        await asyncio.sleep(self.takes.get(prompt, self.takes_s))
        said = self.says[prompt].pop(0) if self.says[prompt] else f"{prompt}!"
        if isinstance(said, Exception):
            raise said
        call.open_with_role()
        call.say(said)
        if isinstance(said, Cut):
            end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}
            call._batches.put_nowait([parse_chunk(json.dumps(end).encode())])
            call._batches.put_nowait([finish()[1]])
            call._batches.put_nowait(None)
        else:
            call.complete()

    def prompts(self) -> list[str]:
        """What has been asked, in the order of asking."""
        return [call.prompt.removeprefix("plan:") for call in self.calls]


class RoundTools:
    """Stands for the tools: a round of the model, `ran` by its tools for a second, and a round more."""

    def __init__(self, calls: ModelCalls) -> None:
        self._calls = calls
        self.asked: list[Sequence[str]] = []
        self.fails = 0

    async def ask(self, turn: Turn, body: Mapping[str, Any], names: Sequence[str]) -> Reply:
        self.asked.append(names)
        await self._calls.ask(turn, body, "scope")
        await asyncio.sleep(1)
        return await self._calls.ask(turn, body, "scope")

    async def before(
        self, turn: Turn, body: Mapping[str, Any], names: Sequence[str], usages: list[dict[str, Any]]
    ) -> Said:
        """One round; what the model says after it is the answer, unless it says nothing."""
        self.asked.append(names)
        reply = await self._calls.ask(turn, body, "scope")
        await asyncio.sleep(1)
        told = [*body["messages"], {"role": "user", "content": "what the tool said"}]

        def said(prompt: Prompt) -> Prompt:
            prompt = with_messages(prompt, told)
            answer = chunks("m", [{"content": reply.text}], "stop", reply.usage)
            return replace(prompt, direct=Ready(answer, prompt)) if reply.text else prompt

        usages += [reply.usage] if reply.usage else []
        if self.fails:
            self.fails -= 1
            raise UpstreamRejected()
        return said

    def bounded(self, prompt: Prompt) -> Prompt:
        """As if what was used held for so many seconds."""
        return replace(prompt, ttl_s=TOLD_S) if self.asked else prompt


class Flows:
    """Workflows from the texts of their files, on `calls` permits, and what is seen of their runs."""

    def __init__(self, *files: str, calls: int = 10) -> None:
        self.model = TimedModel()
        self.stage = Stage("llm_calls", calls)
        retry = RetryPolicy(asyncio.get_running_loop().time, uniform=lambda low, high: high, attempts=1)
        self.supervisor = Supervisor()
        self.calls = ModelCalls(
            cast(ModelClient, self.model), self.stage, retry, self.supervisor.spawn, patience_s=60
        )
        self.tools = RoundTools(self.calls)
        self.shown: list[str] = []
        self.ended: list[str] = []
        self.records: list[Record] = []
        self.turn = FakeTurn()
        self.step = WorkflowStep(
            workflows(*files, tools=["look-up"]),
            self.calls,
            lambda prompt: Caller("scope", "acme"),
            lambda caller: self.tools,
            show=lambda turn, where: self.shown.append(where),
            over=lambda turn, where: self.ended.append(where),
            told=lambda turn, record: self.records.append(record),
            uniform=lambda low, high: high,
        )

    async def run(self, name: str, question: str = "q", **body: Any) -> Prompt:
        messages = [{"role": "user", "content": question}]
        asked = {"model": f"workflow:{name}", "messages": messages, **body}
        return await self.step.run(Prompt(asked, self.turn))

    @property
    def record(self) -> Record:
        return self.records[-1]

    def entry(self, name: str) -> StepRecord:
        (found,) = (step for step in self.record.steps if step.name == name)
        return found

    def inner(self, name: str) -> Record:
        found = self.entry(name).inner
        assert found is not None
        return found

    def statuses(self) -> dict[str, str]:
        return {step.name: step.status for step in self.record.steps}

    def assert_over(self) -> None:
        """Every permit is back, no call is open, and no step that was shown is still under way."""
        assert sorted(self.shown) == sorted(self.ended)
        assert_free(self.stage)
        assert self.model.in_flight["llm_calls"] == 0
        assert not any(call.open for call in self.model.calls)


def workflows(*files: str, model: str | None = "m", tools: Sequence[str] = ()) -> dict[str, Workflow]:
    """Each text is a file; they are called 1.yaml, 2.yaml, and so on."""
    named = {f"{number}.yaml": dedent(text).encode() for number, text in enumerate(files, 1)}
    return read(named, model=model, tools=tools)


def last_text(prompt: Prompt) -> str:
    """What the last step's prompt says."""
    return str(prompt.body["messages"][-1]["content"])
