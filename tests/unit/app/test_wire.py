"""The models of the wire: strict about what they know, open to what they do not, quick to complain."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import ValidationError

from app.wire import Accepted, ChatBody, ChatRecord, CompletionBody
from broadcast.lifecycle import Phase
from broadcast.outcome import Outcome
from chatbot.record import Record, Role
from tests.fakes.pipeline import pipeline
from tests.virtual_time import virtual

HI = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize("model", [ChatBody, CompletionBody])
def test_a_list_of_many_wrongs_is_one_complaint(model: type[ChatBody] | type[CompletionBody]) -> None:
    """A complaint for each of a hundred thousand items would stop the event loop."""
    wrongs: list[dict[str, Any]] = [
        {"messages": [1] * 1000},
        {"messages": HI, "stop": [1] * 1000},
        {"messages": [{"role": "user", "content": [1] * 1000}]},
        {"messages": [{"role": "user", "content": "x", "tool_calls": [1] * 1000}]},
    ]
    for body in wrongs:
        with pytest.raises(ValidationError) as refused:
            model.model_validate(body)
        assert refused.value.error_count() <= 3


@pytest.mark.parametrize("model", [ChatBody, CompletionBody])
def test_numbers_are_numbers(model: type[ChatBody] | type[CompletionBody]) -> None:
    """An integer is a good float; a text or a boolean is neither."""
    body = {"messages": HI, "temperature": 1, "max_tokens": 5}
    assert model.model_validate(body).temperature == 1
    for wrong in ({"temperature": "1"}, {"max_tokens": 5.0}, {"max_tokens": True}, {"top_p": True}):
        with pytest.raises(ValidationError):
            model.model_validate(body | wrong)


def test_the_answers_describe_every_state_there_is() -> None:
    """A status or a role that is missing here is missing in every generated client."""
    statuses = set(get_args(ChatRecord.model_fields["status"].annotation))
    shown = {"queued", "preparing", "ready", "waiting_slot", "streaming"}
    ends = {outcome.value for outcome in Outcome} - {Outcome.SHED.value}
    assert statuses == shown | ends
    for model in (Accepted, ChatRecord):
        assert set(get_args(model.model_fields["role"].annotation)) == {role.value for role in Role}


@virtual
async def test_a_record_is_described_exactly() -> None:
    """Every field that is answered, and no other."""
    async with pipeline() as pipe:
        record: Record = await pipe.ask("q")
        assert record.broadcast.phase is Phase.IDLE
        assert record.snapshot().keys() == ChatRecord.model_fields.keys()
        await pipe.read(record)
        ChatRecord.model_validate(record.snapshot())
