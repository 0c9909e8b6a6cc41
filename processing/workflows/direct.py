"""The answer of a workflow that has no last step to ask a model for: what all its steps said."""

from __future__ import annotations

from collections.abc import Iterable

from processing import ready
from processing.workflows.record import Record
from upstream.chunk import Chunk


def chunks(model: str, pieces: Iterable[str], record: Record) -> tuple[Chunk, ...]:
    """The role, the pieces, the end, and what all the calls used."""
    prompt, said = _tokens(record)
    usage = {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said}
    deltas = [{"role": "assistant", "content": ""}, *({"content": piece} for piece in pieces)]
    return ready.chunks(model, deltas, "stop", usage)


def _tokens(record: Record) -> tuple[int, int]:
    prompt = said = 0
    for step in record.steps:
        inner = _tokens(step.inner) if step.inner else (0, 0)
        prompt += step.cost.prompt_tokens + inner[0]
        said += step.cost.completion_tokens + inner[1]
    return prompt, said
