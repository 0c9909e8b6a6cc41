"""The last step: its prompt is the request's own, and streams. Rounds of its tools come before that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from processing.preparer import Prompt
from processing.workflows.asking import Asking, may_pass
from processing.workflows.engine import Last
from processing.workflows.form import Step
from processing.workflows.record import StepRecord
from processing.workflows.turns import TooManyCalls
from runtime.errors import PrepareFailed, UpstreamError


@dataclass(frozen=True)
class LastStep:
    """One try of it, and what follows when that has failed before it has said anything.

    `bare` is its prompt without the account of the run, which `told` adds: that is made for each try anew,
    as it says whether the second model is asked. `fell_back` hears when it is.
    """

    step: Step
    record: StepRecord
    bare: Prompt
    told: Callable[[Prompt], Prompt]
    back_off: Callable[[int], float]
    fell_back: Callable[[], None]
    attempt: int = 1

    def prompt(self) -> Prompt:
        """With its time and what follows; an answer by a second choice is not stored."""
        more = self.attempt <= self.step.retries or (self.step.fallback and not self.record.fallback)
        bare = replace(self.bare, within_s=self.step.timeout_s, otherwise=self._after if more else None)
        return self.told(bare)

    def _after(self, error: UpstreamError) -> tuple[Prompt, float] | None:
        """The next try and the seconds before it; None: that was the last."""
        if self.attempt <= self.step.retries and may_pass(error):
            return replace(self, attempt=self.attempt + 1).prompt(), self.back_off(self.attempt)
        fallback = self.step.fallback
        if fallback is None or self.record.fallback:
            return None
        self.record.model, self.record.fallback = fallback, True
        self.record.why = f"answered by the fallback: {error.code}"
        self.fell_back()
        bare = replace(self.bare, body={**self.bare.body, "model": fallback})
        return replace(self, bare=bare, attempt=1).prompt(), 0.0


async def rounds(last: Last, prompt: Prompt, asking: Asking) -> Prompt:
    """`prompt` after its rounds of tools, with the answer if that was among them. Raises PrepareFailed."""
    record = last.record
    try:
        said = await asking.rounds(last.step, last.body, record)
    except TooManyCalls:
        last.now("failed", "no calls were left")
        raise
    except BaseException:
        last.now("skipped", "the run ended before it did")
        raise
    if said is None:
        last.now("failed", record.why)
        what = f"The workflow {last.workflow!r} stopped at its step {record.name!r}: {record.why}."
        raise PrepareFailed(what, retryable=not record.final)
    prompt = said(replace(prompt, body={**last.body, "model": record.model}))
    last.now("streams" if prompt.direct is None else "done", record.why)
    return prompt
