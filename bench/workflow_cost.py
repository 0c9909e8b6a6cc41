"""CPU that the framework takes per workflow step, of a pipeline and of a fork-join, with nothing to wait for.

    python -m bench.workflow_cost [--steps 32] [--runs 20] [--reps 5]

`framework` is the graph, the templates and the record; `with_call` has a permit and the folding of a short
answer as well. Each is the difference between a run of many steps and one of none, by the CPU time of the
process; medians. `speed_up` is how many times as fast a phase of so many independent steps is as the same
steps one after the other, where each call takes a fifth of a second. Prints one line of JSON and fails if a
step costs more than it may, or a phase gains less than it must.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec

from admission import Admission, Stage
from processing.caller import Caller
from processing.calls import ModelCalls, Reply
from processing.preparer import Prompt, Turn
from processing.workflows.graph import Workflow
from processing.workflows.loading import read
from processing.workflows.step import WorkflowStep
from runtime.supervisor import Supervisor
from upstream.chunk import Chunk, parse_chunk
from upstream.client import ModelClient
from upstream.permit import LlmPermit
from upstream.retry import RetryPolicy

MAY_COST_US = 300.0
MUST_GAIN = {5: 4.5, 15: 13.0}
CALL_S = 0.2
ANSWER = "An answer of some words, as a reviewer writes it. " * 4

NOBODY = Caller("scope", "bench")


class Instant:
    """Calls that cost nothing: what is left is the framework itself."""

    async def ask(self, turn: Turn, body: Mapping[str, Any], scope: str) -> Reply:
        return Reply({"role": "assistant", "content": ANSWER}, "stop", {"prompt_tokens": 1})


class InstantClient:
    """A model whose whole answer is there at once: with permits, folding and parsing as always."""

    def __init__(self, takes_s: float = 0.0) -> None:
        self._takes_s = takes_s
        fields = [
            {"choices": [{"index": 0, "delta": {"content": ANSWER}, "finish_reason": None}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        ]
        self._chunks = [parse_chunk(msgspec.json.encode(each)) for each in fields]

    @asynccontextmanager
    async def stream(
        self, permit: LlmPermit, body: Mapping[str, Any]
    ) -> AsyncIterator[AsyncIterator[list[Chunk]]]:
        async def batches() -> AsyncIterator[list[Chunk]]:
            if self._takes_s:
                await asyncio.sleep(self._takes_s)
            yield self._chunks

        yield batches()


class Flight:
    order = 0.0
    admission: Admission | None = None


def main() -> int:
    """0 if a step costs no more than it may."""
    parser = argparse.ArgumentParser(description="CPU of the framework per workflow step")
    parser.add_argument("--steps", type=int, default=32, help="at most 32, the most that a fork has")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--reps", type=int, default=5)
    options = parser.parse_args()
    found = asyncio.run(_measure(options.steps, options.runs, options.reps))
    ok = max(cost for name, cost in found.items() if name.startswith("framework")) <= MAY_COST_US
    ok = ok and all(found[f"speed_up_{size}"] >= gain for size, gain in MUST_GAIN.items())
    print(json.dumps({**found, "may_cost_us": MAY_COST_US, "ok": ok}))
    return 0 if ok else 1


async def _measure(steps: int, runs: int, reps: int) -> dict[str, float]:
    retry = RetryPolicy(asyncio.get_running_loop().time)
    stage = Stage("llm_calls", 10)
    whole = ModelCalls(cast(ModelClient, InstantClient()), stage, retry, Supervisor().spawn, patience_s=1)
    workflows = _workflows(steps)
    found = {}
    for kind, calls in (("framework", Instant()), ("with_call", whole)):
        step = WorkflowStep(workflows, calls, lambda prompt: NOBODY)
        none = await _median(step, workflows["none"], runs, reps)
        for name in ("pipeline", "fork-join"):
            cost = await _median(step, workflows[name], runs, reps)
            found[f"{kind}_{name}_us_per_step"] = round((cost - none) / steps * 1e6, 1)
    for size in MUST_GAIN:
        found[f"speed_up_{size}"] = round(statistics.median([await _gain(size) for _ in range(reps)]), 2)
    return found


async def _gain(size: int) -> float:
    """Seconds of a pipeline by those of a fork-join of as many steps, under a limit of as many calls."""
    retry = RetryPolicy(asyncio.get_running_loop().time)
    stage = Stage("llm_calls", size)
    calls = ModelCalls(
        cast(ModelClient, InstantClient(CALL_S)), stage, retry, Supervisor().spawn, patience_s=1
    )
    step = WorkflowStep(_workflows(size), calls, lambda prompt: NOBODY)
    seconds = []
    for name in ("pipeline", "fork-join"):
        began = time.perf_counter()
        await step.run(_asked(name))
        seconds.append(time.perf_counter() - began)
    return seconds[0] / seconds[1]


def _workflows(steps: int) -> dict[str, Workflow]:
    return read({f"{name}.yaml": text.encode() for name, text in _files(steps).items()}, model="m")


def _asked(workflow: str) -> Prompt:
    body = {"model": f"workflow:{workflow}", "messages": [{"role": "user", "content": "Why?"}]}
    return Prompt(body, Flight())


async def _median(step: WorkflowStep, workflow: Workflow, runs: int, reps: int) -> float:
    """CPU seconds of one run."""
    costs = []
    for _ in range(reps + 1):
        began = time.process_time()
        for _ in range(runs):
            await step.run(_asked(workflow.name))
        costs.append((time.process_time() - began) / runs)
    return statistics.median(costs[1:])  # the first warms up


def _files(steps: int) -> dict[str, str]:
    """Templates as people write them: some text, the question, one result."""
    head = "limits: {calls: 1000}\n"
    chain = "".join(f'  - {{name: s{n}, prompt: "{_prompt(n)}"}}\n' for n in range(steps))
    branches = "".join(f'  - {{name: s{n}, prompt: "{n}: {_prompt(0)}"}}\n' for n in range(steps))
    end = '{name: end, prompt: "{{ question }}"}'
    return {
        "none": f"name: none\nsteps: [{end}]\n",
        "pipeline": f"name: pipeline\npattern: pipeline\n{head}steps:\n{chain}  - {end}\n",
        "fork-join": f"name: fork-join\npattern: fork_join\n{head}branches:\n{branches}answer: {end}\n",
    }


def _prompt(number: int) -> str:
    before = f" Before you: {{{{ results.s{number - 1} }}}}" if number else ""
    return f"Answer this in a few words: {{{{ question }}}}{before}"


if __name__ == "__main__":
    sys.exit(main())
