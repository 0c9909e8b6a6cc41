"""The OpenAI wire: when the 200 goes out, what comes before and after it, and who is noticed leaving."""

from __future__ import annotations

import asyncio
import json

import pytest

from app.openai_answer import PATIENCE_S
from app.pulse import BEAT_S
from runtime.errors import GatewayError, UpstreamAuth, UpstreamRejected, UpstreamTruncated
from tests.fakes.asgi import Peer
from tests.fakes.front import COMPLETIONS, front, openai_body
from tests.fakes.turns import settle
from tests.virtual_time import virtual

STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store, no-transform",
    "x-accel-buffering": "no",
}


def frames(peer: Peer) -> list[str]:
    return [event.data for event in peer.events]


@virtual
async def test_a_stream_is_the_models_own_chunks_and_then_done() -> None:
    """Row 86: an unmodified client sees its own protocol; the 200 comes with the first chunk."""
    async with front() as gate, asyncio.TaskGroup() as group:
        peer, call = await gate.asked(group, "q", stream=True)
        await settle()
        assert not peer.started
        call.say("hello")
        await settle()
        assert peer.status == 200
        assert STREAM_HEADERS.items() <= peer.headers.items()
        assert json.loads(frames(peer)[0])["choices"][0]["delta"] == {"content": "hello"}
        call.complete()
    assert [event.name for event in peer.events] == ["message"] * len(peer.events)
    assert frames(peer)[-1] == "[DONE]"
    assert frames(peer).count("[DONE]") == 1
    assert peer.complete
    assert not any("usage" in json.loads(frame) for frame in frames(peer)[:-1])


@virtual
async def test_the_usage_comes_only_to_those_who_asked() -> None:
    """One log, two readers: the same call of the model serves both."""
    async with front() as gate, asyncio.TaskGroup() as group:
        with_usage, call = await gate.asked(group, "q", stream=True, stream_options={"include_usage": True})
        without = gate.open(group, gate.asking(COMPLETIONS, openai_body("q", stream=True)))
        await settle()
        call.say("hello")
        call.complete()
    assert json.loads(frames(with_usage)[-2])["usage"]["total_tokens"] == 5
    assert frames(without) == [*frames(with_usage)[:-2], "[DONE]"]
    assert len(gate.model.calls) == 1


@virtual
async def test_the_headers_go_out_after_five_seconds_of_nothing() -> None:
    """A proxy's patience is shorter than a queue: 200 and headers, and comments from then on."""
    async with front(streams=1) as gate, asyncio.TaskGroup() as group:
        holder = await gate.hold(group)
        asked_at = asyncio.get_running_loop().time()
        peer = gate.open(group, gate.asking(COMPLETIONS, openai_body("q", stream=True)))
        await settle()
        await asyncio.sleep(PATIENCE_S - 0.1)
        assert not peer.started
        await asyncio.sleep(0.1)
        await settle()
        assert asyncio.get_running_loop().time() - asked_at == pytest.approx(5.0)
        assert peer.status == 200
        assert STREAM_HEADERS.items() <= peer.headers.items()
        assert peer.reader.comments == ["queue position 1"]
        assert peer.events == []
        await asyncio.sleep(25.0)
        assert peer.reader.comments == ["queue position 1", "p", "p"]
        holder.complete()
    assert frames(peer)[-1] == "[DONE]"


@virtual
async def test_a_falling_place_is_told_in_comments() -> None:
    """Queue place goes out as comments: clients that know nothing of it skip them."""
    async with front(streams=1) as gate, asyncio.TaskGroup() as group:
        holder = await gate.hold(group)
        ahead = gate.open(group, gate.asking(COMPLETIONS, openai_body("ahead", stream=True)))
        peer = gate.open(group, gate.asking(COMPLETIONS, openai_body("q", stream=True)))
        await asyncio.sleep(PATIENCE_S + BEAT_S)
        ahead.leave()
        await asyncio.sleep(BEAT_S * 2)
        assert peer.reader.comments == ["queue position 2", "queue position 1"]
        holder.complete()


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UpstreamAuth(), 502),
        (UpstreamRejected(code="context_length_exceeded", status=400), 400),
        (UpstreamRejected(code="model_not_found", status=404), 404),
    ],
)
@virtual
async def test_a_failure_before_the_first_chunk_has_its_own_status(
    streamed: bool, error: GatewayError, status: int
) -> None:
    """SDKs retry by status: an error inside a 200 they would show to the user instead."""
    async with front() as gate:
        gate.model.errors["q"].append(error)
        peer = await gate.post(COMPLETIONS, openai_body("q", stream=streamed))
        assert peer.status == status
        assert peer.error["code"] == error.code
        assert peer.headers["content-type"] == "application/json"
        assert peer.headers["x-should-retry"] == "false"
        assert peer.complete


@virtual
async def test_a_failure_after_the_headers_is_one_error_frame_without_done() -> None:
    """The status has gone out: what is left is a frame, and an end that nobody takes for success."""
    async with front(streams=1, slot_s=20.0) as gate, asyncio.TaskGroup() as group:
        holder = await gate.hold(group)
        peer = gate.open(group, gate.asking(COMPLETIONS, openai_body("q", stream=True)))
        await asyncio.sleep(21.0)
        await settle()
        assert (peer.status, peer.complete) == (200, True)
        assert [json.loads(frame)["error"]["code"] for frame in frames(peer)] == ["slot_timeout"]
        holder.complete()


@virtual
async def test_a_failure_in_the_middle_follows_the_text() -> None:
    """Row 47: what was produced has been sent, then one frame, no `[DONE]`; a whole answer is a 502."""
    async with front() as gate, asyncio.TaskGroup() as group:
        peer, call = await gate.asked(group, "q", stream=True)
        whole = gate.open(group, gate.asking(COMPLETIONS, openai_body("q")))
        await settle()
        call.say("part")
        call.fail(UpstreamTruncated())
    assert json.loads(frames(peer)[0])["choices"][0]["delta"]["content"] == "part"
    assert json.loads(frames(peer)[-1])["error"]["code"] == "upstream_truncated"
    assert len(frames(peer)) == 2
    assert (whole.status, whole.error["code"]) == (502, "upstream_truncated")


@virtual
async def test_a_whole_answer_is_one_object() -> None:
    """Row 101: it shares the one call with a stream, and is a chat.completion of the same text."""
    async with front() as gate, asyncio.TaskGroup() as group:
        peer, call = await gate.asked(group, "q", stream=True)
        whole = gate.open(group, gate.asking(COMPLETIONS, openai_body("q")))
        await settle()
        call.say("one")
        call.say(" two")
        call.complete()
    assert whole.headers["content-type"] == "application/json"
    assert whole.json["object"] == "chat.completion"
    assert whole.json["choices"][0]["message"]["content"] == "one two"
    assert whole.json["usage"]["total_tokens"] == 5
    assert whole.headers["cache-status"] == "refrain; fwd=miss; collapsed"
    assert whole.headers["x-refrain-id"] != peer.headers["x-refrain-id"]


@virtual
async def test_cache_status_tells_where_an_answer_came_from() -> None:
    """Row 95: miss, stored, collapsed, hit with its remaining seconds, bypass."""
    async with front(ttl_s=600.0) as gate, asyncio.TaskGroup() as group:
        miss, call = await gate.asked(group, "q", stream=True)
        joined = gate.open(group, gate.asking(COMPLETIONS, openai_body("q", stream=True)))
        await settle()
        call.say("a")
        call.complete()
        await settle()
        hit = await gate.post(COMPLETIONS, openai_body("q", stream=True))
        bypass = await gate.post(COMPLETIONS, openai_body("r"), {"cache-control": "no-store"})
        stored = await gate.post(COMPLETIONS, openai_body("s"))
        assert {
            "miss": miss.headers["cache-status"],
            "joined": joined.headers["cache-status"],
            "bypass": bypass.headers["cache-status"],
            "stored": stored.headers["cache-status"],
        } == {
            "miss": "refrain; fwd=miss",
            "joined": "refrain; fwd=miss; collapsed",
            "bypass": "refrain; fwd=bypass",
            "stored": "refrain; fwd=miss; stored",
        }
        name, _, ttl = hit.headers["cache-status"].partition("; ttl=")
        assert name == "refrain; hit"
        assert 590 <= int(ttl) <= 600
        assert hit.body == miss.body


@virtual
async def test_server_timing_has_an_entry_for_each_stage_that_is_over() -> None:
    """Known before the headers go out, or not there at all."""
    async with front(streams=1, hook=True) as gate, asyncio.TaskGroup() as group:
        holder = await gate.hold(group)
        early = gate.open(group, gate.asking(COMPLETIONS, openai_body("q", stream=True)))
        late = gate.open(group, gate.asking(COMPLETIONS, openai_body("r")))
        await asyncio.sleep(7.0)
        holder.complete()
        await settle()
        assert _timing(early) == {"cache": 0, "leaders": 0, "prepare": 0}
        assert _timing(late) == {"cache": 0, "leaders": 0, "prepare": 0, "llm_streams": 7000, "ttft": 7000}


def _timing(peer: Peer) -> dict[str, int]:
    entries = [entry.split(";dur=") for entry in peer.headers["server-timing"].split(", ")]
    return {name: int(duration) for name, duration in entries}
