"""What an answer carries to its readers: every byte of it, how it came about, and exactly one end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.fakes.eventually import eventually
from tests.system.client import Client, text_of
from tests.system.processes import GatewayProcess, SimulatorProcess
from tests.system.prompts import answer_to, prompt, saying
from tests.system.scene import LAG_S, Simulate, Start, accepted, at_rest, calls_of, filled, held, over, shown
from tests.system.sse import Reader

pytestmark = pytest.mark.anyio

TOKENS = 12
TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
#: Everything that has broken an SSE writer or reader somewhere.
HOSTILE = (
    "line\nline\r\nline\rline\n\n\ndata: not a field\nevent: done\nid: 1-1\n: no comment\n"
    '"quotes" \\backslash\\ \t\0\x1b\x7f {"json": [1]} </script> [DONE]\n'
    "\u2028\u2029\u0085\ufeff e\u0301 \u00e9 \u4e2d\u6587 \ud55c\uad6d\uc5b4 \u0627\u0644 \u200d"
    "\U0001f469\u200d\U0001f680 \U0001f1e9\U0001f1ea \U0010ffff \n"
)


@pytest.fixture
def simulator(simulate: Simulate) -> SimulatorProcess:
    return simulate(ttft=0, tps=0, tokens=TOKENS)


@pytest.fixture
def gateway(simulator: SimulatorProcess, start: Start) -> GatewayProcess:
    return start(simulator)


@pytest.mark.parametrize("cut", [1, 3, 1000])
async def test_hostile_text_arrives_byte_exact_in_events_that_are_json(
    gateway: GatewayProcess, cut: int
) -> None:
    """Row 46: no text can break a frame, however the model cuts it; on both wires, live and replayed."""
    question = prompt("Quote it", text=saying(HOSTILE), cut=cut)
    async with Client(gateway.url) as client:
        for role in ("leader", "cached"):
            chat = await accepted(client, question)
            assert chat["role"] == role
            stream = await client.stream(chat["stream_url"])
            assert stream.text == HOSTILE
            assert stream.end.name == "done"
            await over(gateway)
            for event in stream.events:
                assert event.name in ("status", "delta", "done")
                assert "\n" not in event.data
                assert isinstance(event.json, dict)
        _, frames = await client.chunks(question)
        assert text_of(frames) == HOSTILE
        assert frames[-1] == "[DONE]"
        whole = await client.complete(question)
        assert whole.json["choices"][0]["message"]["content"] == HOSTILE
        assert (await client.record(chat["id"]))["text"] == HOSTILE


@pytest.mark.parametrize("how", ["truncate", "reset", "error_frame"])
async def test_a_failure_in_the_middle_is_an_event_and_keeps_the_text(
    gateway: GatewayProcess, how: str
) -> None:
    """Row 47: a stream never just stops; what came before stays readable, and nothing of it is cached."""
    question = prompt("Break off", **{how: 5})
    async with Client(gateway.url) as client:
        chat = await accepted(client, question)
        stream = await client.stream(chat["stream_url"])
        assert stream.text == answer_to(question, 5)
        assert stream.end.name == "failed"
        assert stream.end.json.keys() == {"code", "message", "retryable"}
        assert stream.end.json["code"] == ("upstream_error" if how == "error_frame" else "upstream_truncated")
        record = await shown(client, chat["id"], "failed")
        assert record["text"] == answer_to(question, 5)
        await over(gateway)
        reply, frames = await client.chunks(question)
        assert reply.status == 200
        assert text_of(frames) == answer_to(question, 5)
        assert frames[-1]["error"]["code"] == stream.end.json["code"]
        assert "[DONE]" not in frames
        await over(gateway)
        whole = await client.complete(question)
        assert (whole.status, whole.error["code"]) == (502, stream.end.json["code"])
        await at_rest(gateway)


async def test_followers_share_the_failure_and_the_next_one_starts_fresh(
    gateway: GatewayProcess, simulator: SimulatorProcess
) -> None:
    """Row 48: one upstream call fails for all who shared it, and for nobody after them."""
    question = prompt("Together", hold="shared", status=500, times=1)
    async with Client(gateway.url) as client:
        chats = [await accepted(client, question) for _ in range(4)]
        assert [chat["role"] for chat in chats] == ["leader", *["follower"] * 3]
        async with asyncio.TaskGroup() as group:
            streams = [group.create_task(client.stream(chat["stream_url"])) for chat in chats]
            openai = group.create_task(client.complete(question))
            await held(simulator, "shared")
            await eventually(lambda: gateway.get("/pipeline")["totals"]["subscribers"] == 5)
            simulator.release("shared")
        ends = [stream.result().end for stream in streams]
        assert {end.name for end in ends} == {"failed"}
        assert len({end.id for end in ends}) == 1
        assert openai.result().status == 502
        assert calls_of(simulator, question) == 1
        await over(gateway)
        fresh = await client.ask(question)
        assert fresh.text == answer_to(question, TOKENS)
        assert fresh.end.json["cache"] == "miss"
        assert calls_of(simulator, question) == 2


async def test_a_shared_failure_in_the_middle_leaves_all_with_the_same_text(
    gateway: GatewayProcess, simulator: SimulatorProcess
) -> None:
    """Row 48: however far each reader was, all end with the same partial text and the same event."""
    question = prompt("Halfway", hold="halfway", hold_after=4, truncate=7)
    async with Client(gateway.url) as client:
        chats = [await accepted(client, question) for _ in range(4)]
        async with asyncio.TaskGroup() as group:
            streams = [group.create_task(client.stream(chat["stream_url"])) for chat in chats]
            await held(simulator, "halfway")
            simulator.release("halfway")
        for stream in streams:
            assert stream.result().text == answer_to(question, 7)
            assert stream.result().end == streams[0].result().end
        await over(gateway)
        again = await accepted(client, question)
        assert again["role"] == "leader"
        await client.stream(again["stream_url"])
    assert calls_of(simulator, question) == 2


async def test_time_to_the_first_token_and_its_source_are_told_as_soon_as_they_are_known(
    gateway: GatewayProcess, simulator: SimulatorProcess
) -> None:
    """Row 49: a client sees how long the first token took, and whether a model or the cache gave it."""
    question = prompt("How fast?", hold="first", hold_after=1)
    async with Client(gateway.url) as client:
        chat = await accepted(client, question)
        assert (await client.record(chat["id"]))["timings"]["ttft_ms"] is None
        async with client.listening(chat["stream_url"]) as (_, events, _):
            while (await anext(events)).name != "delta":
                continue
            record = await shown(client, chat["id"], "streaming")
            assert record["role"] == "leader"
            assert record["timings"]["ttft_ms"] >= 0
            assert record["timings"]["total_ms"] is None
            simulator.release("first")
            done = [event async for event in events][-1].json
        assert done["cache"] == "miss"
        # Each worker has its own clock, and the way of the text to it is a part of what it measures.
        assert abs(done["timings"]["ttft_ms"] - record["timings"]["ttft_ms"]) <= 1000 * LAG_S
        assert done["timings"]["total_ms"] >= done["timings"]["ttft_ms"]
        await over(gateway)
        hit = await client.ask(question)
        assert (hit.end.json["role"], hit.end.json["cache"]) == ("cached", "hit")
        assert hit.end.json["timings"]["ttft_ms"] >= 0
        slow = await client.ask(prompt("How slow?", ttft=0.5))
        assert slow.end.json["timings"]["ttft_ms"] >= 500


async def test_cache_status_says_how_each_answer_came_about(
    gateway: GatewayProcess, simulator: SimulatorProcess
) -> None:
    """Row 95: hit, stored, collapsed and bypass, on every form of reply, as RFC 9211 writes them."""
    question = prompt("Status?", hold="status")
    async with Client(gateway.url) as client:
        leader = await accepted(client, question)
        async with asyncio.TaskGroup() as group:
            led = group.create_task(client.stream(leader["stream_url"]))
            await held(simulator, "status")
            whole = group.create_task(client.complete(question))
            streamed = group.create_task(client.chunks(question))
            follower = await accepted(client, question)
            followed = group.create_task(client.stream(follower["stream_url"]))
            await eventually(lambda: gateway.get("/pipeline")["totals"]["subscribers"] == 4)
            simulator.release("status")
        assert led.result().headers["cache-status"] == "refrain; fwd=miss"
        collapsed = (whole.result(), streamed.result()[0], followed.result())
        assert {reply.headers["cache-status"] for reply in collapsed} == {"refrain; fwd=miss; collapsed"}

        async def status(*, headers: dict[str, str] | None = None, words: str = question) -> str:
            return (await client.complete(words, headers=headers)).headers["cache-status"]

        hit = await status()
        assert hit.startswith("refrain; hit; ttl=")
        assert 0 < int(hit.rpartition("=")[2]) <= 86400
        native = await client.ask(question)
        assert native.headers["cache-status"].startswith("refrain; hit; ttl=")
        assert await status(words="Status! Not asked before.") == "refrain; fwd=miss; stored"
        assert await status(headers={"cache-control": "no-store"}) == "refrain; fwd=bypass"
        assert await status(headers={"cache-control": "no-cache"}) == "refrain; fwd=miss; stored"
        assert (await client.ask(question, cache=False)).headers["cache-status"] == "refrain; fwd=bypass"
        only = await client.complete("Unheard of", headers={"cache-control": "only-if-cached"})
        assert (only.status, only.error["code"]) == (504, "not_cached")


async def test_shared_and_replayed_answers_are_the_original_byte_for_byte(
    simulator: SimulatorProcess, start: Start
) -> None:
    """Row 100: reasoning, tool calls and usage reach followers and cache hits as the model sent them."""
    gateway = start(simulator, LOCAL_CACHE_BYTES=0)
    asked = {"tools": TOOLS, "stream_options": {"include_usage": True}}
    for question in (
        prompt("Think", hold="think", hold_after=2, reasoning=1),
        prompt("Call", hold="call", hold_after=2, reasoning=1, tool=1, cut=1),
        prompt("Count", hold="count", hold_after=2, usage_inline=1),
    ):
        async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
            name = question.split("hold=")[1].split()[0]
            leader = group.create_task(client.chunks(question, **asked))
            await held(simulator, name)
            follower = group.create_task(client.chunks(question, **asked))
            native = await accepted(client, question, tools=TOOLS)
            following = group.create_task(client.stream(native["stream_url"]))
            await eventually(lambda: gateway.get("/pipeline")["totals"]["subscribers"] == 3)
            simulator.release(name)
        async with Client(gateway.url) as client:
            await eventually(lambda: gateway.get("/pipeline")["totals"]["broadcasts"] == 0)
            hit, frames = await client.chunks(question, **asked)
            assert hit.headers["cache-status"].startswith("refrain; hit")
            assert hit.body == leader.result()[0].body == follower.result()[0].body
            whole = (await client.complete(question, tools=TOOLS)).json
            replayed = await client.ask(question, tools=TOOLS)
        usage = next(frame["usage"] for frame in reversed(frames[:-1]) if frame.get("usage"))
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0
        assert whole["usage"] == replayed.end.json["usage"] == following.result().end.json["usage"] == usage
        deltas = [frame["choices"][0]["delta"] for frame in frames[:-1] if frame["choices"]]
        for stream in (replayed, following.result()):
            shown = [event.json for event in stream.events if event.name == "delta"]
            for field, native_field in (("reasoning_content", "reasoning"), ("tool_calls", "tool_calls")):
                sent = [delta[field] for delta in deltas if field in delta]
                assert [event[native_field] for event in shown if native_field in event] == sent
        message = whole["choices"][0]["message"]
        reasoning = "".join(delta.get("reasoning_content", "") for delta in deltas)
        assert message.get("reasoning_content", "") == reasoning
        pieces = [call["function"]["arguments"] for delta in deltas for call in delta.get("tool_calls", ())]
        made = [call["function"]["arguments"] for call in message.get("tool_calls") or ()]
        assert made == (["".join(pieces)] if pieces else [])
        assert all(isinstance(json.loads(arguments), dict) for arguments in made)
    assert simulator.stats()["calls"] == 3


@asynccontextmanager
async def opened(
    client: Client, question: str, *, openai: bool
) -> AsyncIterator[tuple[Reader, AsyncIterator[bytes]]]:
    """A stream that nobody has read from yet, on either wire."""
    if openai:
        body = {"stream": True, "messages": [{"role": "user", "content": question}]}
        request = client.http.post("/v1/chat/completions", json=body)
    else:
        request = client.http.get((await accepted(client, question))["stream_url"])
    async with request as reply:
        assert reply.status == 200
        assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert reply.headers["cache-control"] == "no-store, no-transform"
        assert reply.headers["x-accel-buffering"] == "no"
        yield Reader(), reply.content.iter_any()


async def test_a_silent_stream_is_kept_alive_in_every_state(
    simulator: SimulatorProcess, start: Start
) -> None:
    """Row 45: ten seconds without a byte bring a comment: queued, before the first token and after it."""
    gateway = start(simulator, MAX_CONCURRENT_LLM_STREAMS=3, ABANDON_GRACE_S=0)
    loop = asyncio.get_running_loop()
    all_heard = asyncio.Barrier(4)

    async def listen(question: str, *, openai: bool) -> None:
        async with opened(client, question, openai=openai) as (reader, chunks):
            before = now = loop.time()
            while "p" not in reader.comments:
                reader.feed(await anext(chunks))
                before, now = now, loop.time()
            # Ten seconds by the server's clock; how late a busy machine may be is not its promise.
            assert 9.0 < now - before < 20.0
            await all_heard.wait()  # whoever leaves earlier makes room for the one that is queued

    async with Client(gateway.url) as client, asyncio.timeout(60):
        async with asyncio.TaskGroup() as group:
            group.create_task(listen(prompt("Silent", hold="silence"), openai=False))
            group.create_task(listen(prompt("Silent later", hold="silence", hold_after=3), openai=False))
            group.create_task(listen(prompt("Silent there", hold="silence", hold_after=3), openai=True))
            await held(simulator, "silence", 3)
            group.create_task(listen(prompt("Queued"), openai=False))
            await filled(gateway, "llm_streams", 3, 1)
        await at_rest(gateway)
