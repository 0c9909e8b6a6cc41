"""The simulated model's answers on the wire, plain and scripted by directives."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.fakes.simulator_caller import Sim, chat_body
from upstream.simulator import answer_tokens, prompt_digest

pytestmark = pytest.mark.anyio


def _expected(text: str, n: int) -> list[str]:
    return answer_tokens([{"role": "user", "content": text}], n)


async def test_a_stream_has_one_event_per_token_in_the_openai_form() -> None:
    """Role first, then the foretold tokens, the finish reason, and [DONE]."""
    reply = await Sim(tokens=5).chat("hi", model="any")
    assert reply.status == 200
    assert reply.headers[b"x-refrain-simulated"] == b"1"
    assert reply.headers[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert reply.chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert reply.deltas() == _expected("hi", 5)
    assert reply.finish_reasons == ["stop"]
    assert reply.events[-1] == "[DONE]"
    assert len(reply.chunks) == 7
    assert {(c["object"], c["model"], c["id"]) for c in reply.chunks} == {
        ("chat.completion.chunk", "any", reply.chunks[0]["id"])
    }
    assert not any("usage" in chunk for chunk in reply.chunks)


async def test_the_usage_chunk_comes_only_when_asked_for() -> None:
    """It follows the finish chunk and has no choices; all chunks before it say null."""
    reply = await Sim(tokens=5).chat("one two", stream_options={"include_usage": True})
    assert reply.chunks[-1]["choices"] == []
    assert reply.chunks[-1]["usage"] == {"prompt_tokens": 2, "completion_tokens": 5, "total_tokens": 7}
    assert all(chunk["usage"] is None for chunk in reply.chunks[:-1])


async def test_usage_can_ride_in_the_finish_chunk() -> None:
    """Some servers never send a chunk of its own for it."""
    reply = await Sim(tokens=3).chat("[[sim usage_inline=1]]", stream_options={"include_usage": True})
    assert reply.chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert reply.chunks[-1]["usage"]["completion_tokens"] == 3


async def test_a_whole_answer_is_one_completion() -> None:
    """Without streaming the same text comes as one object, with usage."""
    reply = await Sim(tokens=5).chat("hi", stream=False)
    assert reply.json["object"] == "chat.completion"
    message = {"role": "assistant", "content": "".join(_expected("hi", 5))}
    assert reply.json["choices"] == [
        {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    ]
    assert reply.json["usage"]["completion_tokens"] == 5


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_the_request_caps_its_answer(field: str) -> None:
    """A capped answer ends with `length`; one that just fits ends with `stop`."""
    sim = Sim(tokens=5)
    capped, fits = await sim.chat("hi", **{field: 3}), await sim.chat("hi", **{field: 5})
    assert (capped.deltas(), capped.finish_reasons) == (_expected("hi", 3), ["length"])
    assert (fits.deltas(), fits.finish_reasons) == (_expected("hi", 5), ["stop"])


async def test_every_choice_gets_an_answer() -> None:
    """`n` choices: n events per token, n finish chunks, n times the usage."""
    reply = await Sim(tokens=2).chat("hi", n=2)
    assert [chunk["choices"][0]["index"] for chunk in reply.chunks] == [0, 1] * 4
    whole = await Sim(tokens=2).chat("hi", n=2, stream=False)
    assert [choice["index"] for choice in whole.json["choices"]] == [0, 1]
    assert whole.json["usage"]["completion_tokens"] == 4


async def test_an_exact_text_arrives_in_the_pieces_asked_for() -> None:
    """Tests of Unicode and line breaks say themselves what they want to read."""
    text = "naïve\r\ndata: 👩‍🚀\u2028世界"
    encoded = base64.urlsafe_b64encode(text.encode()).decode()
    reply = await Sim().chat(f"[[sim text={encoded} cut=3]]")
    assert reply.deltas() == [text[at : at + 3] for at in range(0, len(text), 3)]


async def test_a_tool_call_comes_in_pieces() -> None:
    """Its arguments only parse when they are put together again."""
    tools = [{"type": "function", "function": {"name": "look_up", "parameters": {}}}]
    reply = await Sim().chat("[[sim tool=1 cut=2]]", tools=tools)
    calls = [delta[0] for delta in reply.deltas("tool_calls")]
    assert calls[0]["function"]["name"] == "look_up"
    assert calls[0]["id"].startswith("call_")
    arguments = "".join(call["function"]["arguments"] for call in calls)
    assert len(calls) > 5
    assert "query" in json.loads(arguments)
    assert reply.finish_reasons == ["tool_calls"]
    whole = await Sim().chat("[[sim tool=1 cut=2]]", stream=False)
    message = whole.json["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"][0]["function"]["name"] == "simulated_lookup"


async def test_reasoning_comes_before_content() -> None:
    """Reasoning deltas are pieces of their own and count as tokens."""
    reply = await Sim(tokens=2).chat("[[sim reasoning=1]]")
    assert "".join(reply.deltas("reasoning_content")) == "Let me think about that."
    assert "content" not in reply.chunks[5]["choices"][0]["delta"]
    assert len(reply.deltas()) == 2
    whole = await Sim(tokens=2).chat("[[sim reasoning=1]]", stream=False)
    assert whole.json["choices"][0]["message"]["reasoning_content"] == "Let me think about that."


async def test_a_cumulative_stream_repeats_itself() -> None:
    """Each delta is a prefix of the next; a whole answer is not affected."""
    prompt = "[[sim cumulative=1 tokens=3]]"
    reply, tokens = await Sim().chat(prompt), _expected(prompt, 3)
    assert reply.deltas() == ["".join(tokens[: i + 1]) for i in range(3)]
    whole = await Sim().chat(prompt, stream=False)
    assert whole.json["choices"][0]["message"]["content"] == "".join(tokens)


async def test_an_empty_answer_finishes_without_content() -> None:
    """It is complete on the wire, and says nothing."""
    reply = await Sim().chat("[[sim empty=1]]")
    assert (reply.deltas(), reply.finish_reasons, reply.events[-1]) == ([], ["stop"], "[DONE]")


async def test_a_truncated_stream_ends_cleanly_without_a_finish() -> None:
    """The HTTP body is whole; the answer in it is not."""
    reply = await Sim().chat("[[sim truncate=5]]")
    assert reply.ended
    assert len(reply.deltas()) == 5
    assert not reply.finish_reasons
    assert reply.events[-1] != "[DONE]"


async def test_a_reset_leaves_the_body_unfinished() -> None:
    """The server then cuts the connection, which only a torn body shows."""
    for stream in (True, False):
        reply = await Sim().chat("[[sim reset=5]]", stream=stream)
        assert reply.returned
        assert not reply.ended
        assert reply.writes


async def test_a_failure_inside_the_stream_is_a_frame_of_its_own() -> None:
    """The status was 200 already, so the error comes in band, and nothing after it."""
    reply = await Sim().chat("[[sim error_frame=5]]")
    assert reply.ended
    assert len(reply.deltas()) == 5
    assert json.loads(reply.events[-1])["error"]["type"] == "server_error"
    assert (await Sim().chat("[[sim error_frame=5]]", stream=False)).status == 500


@pytest.mark.parametrize("stream", [True, False])
async def test_garbage_is_a_success_that_does_not_parse(stream: bool) -> None:
    """The worst kind of upstream: 200, and no JSON in it."""
    reply = await Sim().chat("[[sim garbage=1]]", stream=stream)
    assert reply.status == 200
    assert reply.ended
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(reply.events[0] if stream else reply.body)


async def test_half_an_object_is_what_a_truncated_whole_answer_is() -> None:
    """Not streamed, a truncation shows as JSON that stops in the middle."""
    reply = await Sim().chat("[[sim truncate=5]]", stream=False)
    assert reply.ended
    assert reply.body.startswith(b'{"id"')
    with pytest.raises(ValueError, match=r"."):
        json.loads(reply.body)


async def test_the_first_calls_of_a_prompt_can_fail() -> None:
    """`times` counts the calls of this very prompt, so that retries can be proven."""
    sim, prompt = Sim(), "[[sim status=503 times=2]]"
    assert [(await sim.chat(text)).status for text in (prompt, prompt, "other", prompt)] == [
        503,
        503,
        200,
        200,
    ]


@pytest.mark.parametrize(
    ("directive", "status", "code", "retry_after"),
    [
        ("status=429", 429, "rate_limit_exceeded", b"1"),
        ("status=429 retry_after=7", 429, "rate_limit_exceeded", b"7"),
        ("status=400 code=context_length_exceeded", 400, "context_length_exceeded", None),
        ("status=503", 503, "simulated_error", None),
    ],
)
async def test_a_scripted_status_has_its_code_and_wait(
    directive: str, status: int, code: str, retry_after: bytes | None
) -> None:
    """Errors have the shape of OpenAI's, and a 429 always says how long to wait."""
    reply = await Sim().chat(f"[[sim {directive}]]")
    assert (reply.status, reply.json["error"]["code"]) == (status, code)
    assert reply.headers.get(b"retry-after") == retry_after
    assert reply.headers[b"x-refrain-simulated"] == b"1"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[" * 100_000,
        b'{"messages": []}',
        b'{"messages": [{"content": "no role"}]}',
        b'{"messages": "hi"}',
        {**chat_body("hi"), "max_tokens": 0},
        chat_body("[[sim colour=red]]"),
    ],
)
async def test_a_request_that_makes_no_sense_is_a_400(body: Any) -> None:
    """It is told so in OpenAI's shape, and counted as failed."""
    sim = Sim()
    reply = await sim.call("POST", "/v1/chat/completions", body)
    assert reply.status == 400
    assert reply.json["error"]["type"] == "invalid_request_error"
    assert (await sim.stats())["failed"] == 1


async def test_chance_fails_calls_as_its_rates_say() -> None:
    """At rate 1 every call meets its fate: refused, or cut in the middle."""
    assert (await Sim(fail_rate=1).chat("hi")).status == 503
    cut = await Sim(truncate_rate=1, tokens=9).chat("hi")
    assert 0 < len(cut.deltas()) < 9
    assert not cut.finish_reasons


async def test_calls_are_counted_by_prompt_and_by_model() -> None:
    """A test sees how often the model was asked the same thing."""
    sim = Sim(tokens=4)
    for model in ("a", "b", "a"):
        await sim.chat("hi", model=model)
    stats = await sim.stats()
    assert stats["calls_by_model"] == {"a": 2, "b": 1}
    assert stats["calls_by_prompt"] == {prompt_digest([{"role": "user", "content": "hi"}]): 3}
    assert (stats["calls"], stats["streams"], stats["tokens"], stats["connections"]) == (3, 3, 12, 1)
