"""An answer without a last step: chunks that are a complete answer to everybody who reads it."""

from __future__ import annotations

import msgspec

from processing.preparer import Prompt, with_messages
from processing.workflows.direct import Answered, chunks
from processing.workflows.record import Cost, Record, StepRecord
from tests.fakes.turn import FakeTurn
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


def test_it_is_still_a_prompt() -> None:
    """Whatever a later step of the row changes, the answer stays with it."""
    direct = chunks("workflow:w", ["x"], record())
    changed = with_messages(Answered({"model": "m", "messages": []}, FakeTurn(), direct=direct), [1])
    assert isinstance(changed, Prompt)
    assert isinstance(changed, Answered)
    assert changed.direct == direct
