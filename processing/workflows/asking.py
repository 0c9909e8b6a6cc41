"""One step asks its model: tries, a second choice, and an answer that was cut is gone on with.

Nothing is held here: each call takes its permit inside `ask`, and a back-off is between two calls.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from processing.calls import Reply
from processing.preparer import Prompt, Turn
from processing.workflows.clock import ran
from processing.workflows.form import Step
from processing.workflows.record import Cost, StepRecord
from processing.workflows.turns import Fan, StepTurn, TooManyCalls
from runtime.errors import GatewayError, UpstreamRateLimited

#: An answer that is cut by the token limit so many times in a row has no end.
MAX_CUTS: Final = 3
CONTINUE: Final = "Your answer was cut. Go on exactly where it ends, without repeating anything."
BASE_S: Final = 0.25
CAP_S: Final = 8.0

T = TypeVar("T")
#: A prompt with all that was said in rounds of tools, and with the answer if that came.
Said = Callable[[Prompt], Prompt]


class Calls(Protocol):
    """`processing.calls.ModelCalls`, or what stands in its place."""

    async def ask(self, turn: Turn, body: Mapping[str, Any], scope: str) -> Reply: ...


class Tools(Protocol):
    """Calls whose tool rounds are run inside.

    `turn.admission` is an `Admission` for each call of the model and never for anything else: by that the
    calls of a step are counted, against the bound of the run.
    """

    async def ask(self, turn: Turn, body: Mapping[str, Any], names: Sequence[str]) -> Reply: ...

    async def before(
        self, turn: Turn, body: Mapping[str, Any], names: Sequence[str], usages: list[dict[str, Any]]
    ) -> Said:
        """The rounds before an answer. `usages` hears of each call at its end, whatever comes after it."""
        ...


def may_pass(error: GatewayError) -> bool:
    """Whether the same model is worth another try: those that were told to wait have waited long enough."""
    return error.retryable and not isinstance(error, UpstreamRateLimited)


class _Failed(Exception):
    """A try that came to nothing. `again`: another one with the same model may do better."""

    def __init__(self, why: str, *, again: bool) -> None:
        super().__init__(why)
        self.why = why
        self.again = again


@dataclass(frozen=True)
class Asking:
    calls: Calls
    tools: Tools
    fan: Fan
    scope: str  #: who may share a call
    uniform: Callable[[float, float], float] = random.uniform

    async def answer(
        self, step: Step, model: str, messages: list[dict[str, Any]], record: StepRecord
    ) -> str | None:
        """The answer, or None with `record` saying why. Raises TooManyCalls."""

        async def once(turn: StepTurn, chosen: str) -> str:
            body = {**step.parameters, "model": chosen, "messages": messages}
            return await self._whole(turn, body, step.tools, record.cost)

        return await self._tried(step, model, record, once)

    async def rounds(self, step: Step, body: Mapping[str, Any], record: StepRecord) -> Said | None:
        """The rounds of its tools before an answer to `body`; None and TooManyCalls as above."""

        async def once(turn: StepTurn, chosen: str) -> Said:
            usages: list[dict[str, Any]] = []
            try:
                return await self.tools.before(turn, {**body, "model": chosen}, step.tools, usages)
            finally:
                for usage in usages:
                    record.cost.add(usage)

        return await self._tried(step, body["model"], record, once)

    async def _tried(
        self, step: Step, model: str, record: StepRecord, once: Callable[[StepTurn, str], Awaitable[T]]
    ) -> T | None:
        reasons: list[str] = []
        for chosen in [model, *([step.fallback] if step.fallback else [])]:
            first = not reasons
            for attempt in range(1, step.retries + 2):
                try:
                    answer = await self._try(step, chosen, record.cost, once)
                except _Failed as failed:
                    reasons.append(failed.why)
                    record.final = not failed.again
                    if not failed.again:
                        break
                else:
                    record.model, record.fallback = chosen, not first
                    record.why = f"answered by the fallback: {reasons[-1]}" if record.fallback else ""
                    return answer
                if attempt <= step.retries:
                    await asyncio.sleep(self.back_off(attempt))
        record.why = reasons[-1]
        return None

    def back_off(self, attempt: int) -> float:
        """Seconds after the try of this number, which has failed."""
        return self.uniform(0.0, min(CAP_S, BASE_S * 2.0 ** (attempt - 1)))

    async def _try(
        self, step: Step, model: str, cost: Cost, once: Callable[[StepTurn, str], Awaitable[T]]
    ) -> T:
        """Raises _Failed for whatever a model may do wrong."""
        turn = self.fan.open()
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            async with ran(step.timeout_s, turn.queued_s):
                return await once(turn, model)
        except TooManyCalls:
            raise
        except TimeoutError:
            raise _Failed("timed_out", again=True) from None
        except GatewayError as error:
            raise _Failed(error.code, again=may_pass(error)) from None
        finally:
            now = clock()
            cost.calls += turn.calls
            cost.queued_s += turn.queued_s(now)
            cost.seconds += now - began - turn.queued_s(now)

    async def _whole(self, turn: StepTurn, body: dict[str, Any], tools: Sequence[str], cost: Cost) -> str:
        """One answer to its end, by further calls where the token limit has cut it."""
        reply = await self._ask(turn, body, tools)
        cost.add(reply.usage)
        pieces = [reply.text]
        while reply.finish_reason == "length":
            if len(pieces) == MAX_CUTS:
                raise _Failed(f"cut by the token limit {MAX_CUTS} times in a row", again=False)
            so_far = {"role": "assistant", "content": "".join(pieces)}
            asked = [*body["messages"], so_far, {"role": "user", "content": CONTINUE}]
            reply = await self._ask(turn, {**body, "messages": asked}, ())
            cost.add(reply.usage)
            pieces.append(reply.text)
        text = "".join(pieces)
        if not text.strip():
            raise _Failed("the answer was empty", again=True)
        return text

    async def _ask(self, turn: StepTurn, body: dict[str, Any], tools: Sequence[str]) -> Reply:
        turn.pay()
        if tools:
            return await self.tools.ask(turn, body, tools)
        return await self.calls.ask(turn, body, self.scope)
