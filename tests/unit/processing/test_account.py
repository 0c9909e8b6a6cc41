"""The chunk before an answer that says how it was prepared."""

from __future__ import annotations

import msgspec

from app import sse
from processing.account import account_of, beside, preface
from tests.fakes.model import delta, finish
from upstream.chunk import parse_chunk
from upstream.fold import completion

TOOLS = {"tools": [{"tool": "weather", "status": "ok"}]}
STEPS = {"workflow": {"workflow": "review", "steps": []}}


def test_it_is_a_chunk_that_shows_nothing() -> None:
    """Clients that read `choices[0].delta` of every chunk must not fall over it, nor count it as text."""
    chunk = preface("m", TOOLS)
    fields = msgspec.json.decode(chunk.raw)
    assert (fields["object"], fields["model"]) == ("chat.completion.chunk", "m")
    assert fields["choices"] == [{"index": 0, "delta": {}, "finish_reason": None}]
    assert not chunk.content
    assert not chunk.usage_only
    assert sse.openai_form(chunk, 1, 1) == b"data: %b\n\n" % chunk.raw


def test_every_account_of_an_answer_is_told() -> None:
    """A workflow with tools has two, in one chunk; what the model itself sends later is not taken for one."""
    later = preface(None, {"tools": "not ours"})
    both = preface("m", STEPS, (preface("m", TOOLS),))
    assert account_of([both, delta("x"), later]) == TOOLS | STEPS
    assert msgspec.json.decode(completion([both, delta("x"), *finish()]))["refrain"] == TOOLS | STEPS
    assert account_of([delta("x")]) == {}
    assert account_of([]) == {}


def test_a_whole_answer_has_it_beside_its_choices() -> None:
    """And the role, the text and the usage are the model's."""
    answer = msgspec.json.decode(completion([preface("workflow:review", STEPS), delta("x"), *finish()]))
    assert (answer["refrain"], answer["model"]) == (STEPS, "workflow:review")
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "x"}


def test_it_has_an_id_and_a_time_like_any_chunk() -> None:
    """Clients that are strict refuse a chunk without them; two answers have not one id."""
    first, second = (msgspec.json.decode(preface("m", TOOLS).raw) for _ in range(2))
    assert first["id"].startswith("chatcmpl-")
    assert first["id"] != second["id"]
    assert isinstance(first["created"], int)


def test_a_stream_has_one_id() -> None:
    """Clients put the chunks of an answer together by it."""
    first = parse_chunk(b'{"id": "chatcmpl-7", "created": 5, "choices": []}')
    (ours,) = beside((preface("m", TOOLS),), first)
    fields = msgspec.json.decode(ours.raw)
    assert (fields["id"], fields["created"], fields["refrain"]) == ("chatcmpl-7", 5, TOOLS)
    assert account_of([ours]) == TOOLS
    (nameless,) = beside((preface("m", TOOLS),), parse_chunk(b'{"choices": []}'))
    assert msgspec.json.decode(nameless.raw)["id"].startswith("chatcmpl-")
