"""What a trace shows of requests that share an answer, and what it never shows."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode

from tests.fakes.front import COMPLETIONS, openai_body
from tests.fakes.tracing import CHAT, identity, links, seconds, traced_front
from tests.fakes.turns import settle
from tests.virtual_time import virtual

STAGES = ["wait leaders", "prepare", "wait subscriber", "wait llm_streams", CHAT]
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
OPENAI = f"POST {COMPLETIONS}"
STREAM = "GET /chat/{id}/stream"


@virtual
async def test_a_led_request_is_a_tree_of_its_stages() -> None:
    """Where the time of a slow request went, stage by stage, within the trace of its caller."""
    async with traced_front() as (gate, traces):
        peer = await gate.post(COMPLETIONS, openai_body("q"), headers=TRACEPARENT)
        assert peer.status == 200
        request, flight = traces.one(OPENAI), traces.one("flight")
        assert request.parent is not None
        assert (identity(request)[0], f"{request.parent.span_id:016x}") == (TRACE, CALLER)
        assert request.kind is SpanKind.SERVER
        assert sorted(traces.below(request)) == ["cache lookup", "flight"]
        assert traces.below(flight) == STAGES
        assert {span.status.status_code for span in traces.ended} == {StatusCode.UNSET}
        assert len(traces.ended) == 3 + len(STAGES)


@virtual
async def test_the_span_of_a_request_says_what_became_of_it() -> None:
    """Role, cache result and outcome are what traces are searched by."""
    async with traced_front() as (gate, traces):
        for _ in range(2):
            peer = await gate.post(COMPLETIONS, openai_body("q"))
            await settle()  # the answer is in the cache
        told = dict(traces.one(OPENAI, refrain_role="leader").attributes or {})
        assert told.pop("refrain.id").startswith("chat_")  # type: ignore[union-attr]
        assert told == {
            "http.request.method": "POST",
            "http.route": COMPLETIONS,
            "http.response.status_code": 200,
            "url.scheme": "http",
            "url.path": COMPLETIONS,
            "refrain.role": "leader",
            "refrain.cache": "miss",
            "refrain.outcome": "completed",
            "refrain.ttft_ms": 0,
        }
        hit = traces.one(OPENAI, refrain_cache="hit")
        assert (hit.attributes or {})["refrain.id"] == peer.headers["x-refrain-id"]
        assert traces.below(hit) == ["cache lookup"]
        assert links(hit) == {}


@virtual
async def test_the_call_of_the_model_speaks_the_genai_conventions() -> None:
    """Any tool that knows them counts our tokens and times without being told of us."""
    async with traced_front() as (gate, traces), asyncio.TaskGroup() as group:
        _, call = await gate.asked(group, "q")
        await asyncio.sleep(2.0)
        call.say("text")
        await asyncio.sleep(3.0)
        call.complete()
        await settle()
        span = traces.one(CHAT)
        assert span.kind is SpanKind.CLIENT
        assert dict(span.attributes or {}) == {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "played-model",
            "gen_ai.request.stream": True,
            "gen_ai.response.finish_reasons": ("stop",),
            "gen_ai.response.time_to_first_chunk": 2.0,
            "gen_ai.usage.input_tokens": 3,
            "gen_ai.usage.output_tokens": 2,
            "server.address": "model.example",
            "server.port": 8443,
            "refrain.attempt": 1,
        }
        assert [event.name for event in span.events] == ["first token"]
        assert span.start_time is not None
        assert (span.events[0].timestamp - span.start_time) / 1e9 == pytest.approx(2.0)
        assert seconds(span) == 5.0


@virtual
async def test_a_follower_links_to_the_flight_that_it_shares() -> None:
    """Its own trace has no call of the model: the link is the only way to where its time went."""
    async with traced_front() as (gate, traces), asyncio.TaskGroup() as group:
        _, call = await gate.asked(group, "q")
        gate.open(group, gate.asking(COMPLETIONS, openai_body("q"), headers=TRACEPARENT))
        await settle()
        call.complete()
        await settle()
        flight = traces.one("flight")
        leader, follower = (traces.one(OPENAI, refrain_role=role) for role in ("leader", "follower"))
        assert identity(follower)[0] == TRACE != identity(flight)[0]
        assert links(follower) == {"flight": identity(flight)}
        assert links(leader) == {}
        assert traces.below(follower) == []


@virtual
async def test_a_stream_links_to_the_submit_and_to_the_flight() -> None:
    """Submit and stream are two requests of one chat; neither alone shows the whole wait."""
    async with traced_front() as (gate, traces):
        accepted = await gate.submit("q")
        await asyncio.sleep(7.0)
        await gate.get(accepted["stream_url"])
        submit, stream, flight = (traces.one(name) for name in ("POST /chat", STREAM, "flight"))
        assert links(stream) == {"request": identity(submit), "flight": identity(flight)}
        assert (stream.attributes or {})["refrain.outcome"] == "completed"
        assert (submit.attributes or {})["http.response.status_code"] == 202
        assert sorted(traces.below(submit)) == ["cache lookup", "flight"]
        assert seconds(traces.one("wait subscriber")) == seconds(flight) == 7.0


@virtual
async def test_waits_are_as_long_as_they_were() -> None:
    """A full stage shows as the wait before it, and as nothing else."""
    async with traced_front(leaders=1, streams=1, hook=True) as (gate, traces):
        gate.pipe.hold("leaders", "llm_streams")
        async with asyncio.TaskGroup() as group:
            gate.open(group, gate.asking(COMPLETIONS, openai_body("q")))
            await asyncio.sleep(11.0)
            gate.pipe.hook.gate.clear()
            gate.pipe.let_go("leaders")
            await asyncio.sleep(5.0)
            gate.pipe.hook.gate.set()
            await asyncio.sleep(3.0)
            gate.pipe.let_go("llm_streams")
        stages = ("wait leaders", "prepare", "wait subscriber", "wait llm_streams")
        assert [seconds(traces.one(name)) for name in stages] == [11.0, 5.0, 0.0, 3.0]
        assert traces.below(traces.one("prepare")) == ["prepare hook"]
        assert seconds(traces.one("prepare hook")) == 5.0


@virtual
async def test_the_flight_outlives_a_leader_that_leaves() -> None:
    """Its spans belong to the work, not to whoever began it: the rest of it would be in nobody's trace."""
    async with traced_front() as (gate, traces), asyncio.TaskGroup() as group:
        leader, call = await gate.asked(group, "q")
        gate.open(group, gate.asking(COMPLETIONS, openai_body("q")))
        await asyncio.sleep(1.0)
        leader.leave()
        await asyncio.sleep(4.0)
        assert traces.named("flight") == []
        call.say("text")
        call.complete()
        await settle()
        gone, flight = traces.one(OPENAI, refrain_role="leader"), traces.one("flight")
        assert (gone.attributes or {})["refrain.outcome"] == "cancelled"
        assert (seconds(gone), seconds(flight), seconds(traces.one(CHAT))) == (1.0, 5.0, 5.0)
        assert identity(gone)[0] == identity(flight)[0]
        assert (flight.attributes or {})["refrain.outcome"] == "sealed"


@virtual
@pytest.mark.parametrize("headers", [{}, {"traceparent": f"00-{TRACE}-{CALLER}-00"}])
async def test_what_is_not_sampled_makes_no_span(headers: dict[str, str]) -> None:
    """The standard sampler decides, for a caller's trace as its caller has, and then for all that follows."""
    sampler = ParentBased(ALWAYS_OFF)
    async with traced_front(sampler) as (gate, traces):
        await gate.post(COMPLETIONS, openai_body("q"), headers=headers)
        await gate.get((await gate.submit("another"))["stream_url"])
        assert traces.ended == []
        await gate.post(COMPLETIONS, openai_body("a third"), headers=TRACEPARENT)
        assert sorted(traces.below(traces.one(OPENAI))) == ["cache lookup", "flight"]


@virtual
async def test_no_secret_and_no_text_is_ever_told() -> None:
    """Traces leave the house: no prompt, answer, API key, tenant, sharing key or ticket is in them."""
    keys = {"canary-key": "canary-tenant"}
    bearer = {"authorization": "Bearer canary-key"}
    async with traced_front(keys=keys, hook=True) as (gate, traces), asyncio.TaskGroup() as group:
        gate.model.by_hand.add("canary-prompt")
        accepted = (await gate.post("/chat", {"message": "canary-prompt"}, headers=bearer)).json
        stream = await gate.listen(group, accepted["stream_url"])
        call = await gate.model.call("canary-prompt")
        call.say("canary-answer")
        call.complete()
        await settle()
        assert "canary-answer" in stream.body.decode()
        ticket = accepted["stream_url"].partition("ticket=")[2]
        key = gate.record(accepted["id"], "canary-tenant").broadcast.key
        assert ticket
        assert key
        told = traces.everything()
        assert accepted["id"] in told
        assert [secret for secret in ("canary", ticket, key, "?", "Bearer") if secret in told] == []


@virtual
async def test_a_long_name_of_a_model_is_cut() -> None:
    """Any text may stand in `model`: neither a book nor half a character may get into a span."""
    async with traced_front() as (gate, traces):
        peer = await gate.post(COMPLETIONS, openai_body("q", model="x" * 5000))
        assert peer.status == 200
        assert len(traces.named("chat " + "x" * 100)) == 1
