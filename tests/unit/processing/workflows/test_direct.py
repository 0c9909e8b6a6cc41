"""An answer without a last step: chunks that are a complete answer to everybody who reads it."""

from __future__ import annotations

import msgspec

from processing.ready import Ready
from processing.workflows.direct import chunks
from processing.workflows.record import Cost, Record, StepRecord
from tests.fakes.turn import FakeTurn, prompt
from tests.virtual_time import virtual
from upstream.fold import completion


def record() -> Record:
    inner = Record("i", "v", [StepRecord("x", "x", "done", cost=Cost(1, 10, 20))])
    outer = StepRecord("sub", "sub", "done", inner=inner)
    return Record("w", "v", [StepRecord("a", "a", "done", cost=Cost(1, 1, 2)), outer])


def test_it_is_a_complete_answer() -> None:
    """What the cache and the OpenAI route take for one: a finish reason, a usage, the model's name."""
    found = chunks("workflow:w", ["one ", "two"], record())
    answer = msgspec.json.decode(completion(found))
    assert answer["model"] == "workflow:w"
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "one two"}
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"] == {"prompt_tokens": 11, "completion_tokens": 22, "total_tokens": 33}
    assert found[-1].usage_only
    assert [chunk.text for chunk in found if chunk.content] == ["one ", "two"]


@virtual
async def test_it_streams_all_at_once() -> None:
    """Whoever broadcasts it needs no other way than for an answer that comes in pieces."""
    asked = prompt()
    ready = Ready(chunks("workflow:w", ["x"], record()), asked)
    async with ready.stream(FakeTurn()) as batches:
        assert [batch async for batch in batches] == [list(ready.chunks)]
    assert ready.otherwise is asked


def test_it_begins_as_a_model_would() -> None:
    """Clients take the role from the first chunk, and a text, be it empty."""
    first, *_, last = (msgspec.json.decode(chunk.raw) for chunk in chunks("workflow:w", ["x"], record()))
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert last["choices"] == []
