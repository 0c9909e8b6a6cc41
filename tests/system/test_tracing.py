"""Traces as a collector gets them: from one process, from two, and what a collector that is gone costs."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.fakes.eventually import eventually
from tests.system.client import Client, text_of
from tests.system.collector import Collector, TracedGateway, collector
from tests.system.crew import crew, pinned
from tests.system.processes import ROOT, SimulatorProcess
from tests.system.prompts import answer_to, prompt, tokens_of
from tests.system.scene import Simulate, accepted, at_rest, held, hook_of, together

pytestmark = [pytest.mark.anyio, pytest.mark.per_process("says itself how many workers there are")]

TOKENS = 6
MODEL = "refrain-sim"
CHAT = f"chat {MODEL}"
STAGES = sorted([CHAT, "prepare", "wait leaders", "wait llm_streams", "wait subscriber"])
OPENAI, SUBMIT, STREAM = "POST /v1/chat/completions", "POST /chat", "GET /chat/{id}/stream"
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
Trace = Callable[..., TracedGateway]


@pytest.fixture
def simulator(simulate: Simulate) -> SimulatorProcess:
    return simulate(ttft=0, tps=0, tokens=TOKENS)


@pytest.fixture
def kept() -> Iterator[Collector]:
    with collector() as some:
        yield some


@pytest.fixture
def trace() -> Iterator[Trace]:
    """`trace(url, simulator, …)` starts a gateway that sends its traces there."""
    with ExitStack() as stack:

        def begin(url: str, simulator: SimulatorProcess, workers: int = 1, **settings: Any) -> TracedGateway:
            gateway = TracedGateway(url, simulator.base_url, workers=workers, **settings)
            stack.callback(gateway.kill)
            return gateway

        yield begin


async def test_two_callers_share_one_flight_in_their_traces(
    simulator: SimulatorProcess, kept: Collector, trace: Trace
) -> None:
    """Issue 4, part 3: a span per stage, and the follower links to what the leader began."""
    gateway = trace(kept.url, simulator, OTEL_SERVICE_NAME="front-door", OTEL_RESOURCE_ATTRIBUTES="team=chat")
    question = prompt("Who shares this?", hold="gate")
    mine = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        leads = group.create_task(client.complete(question, headers=mine))
        await held(simulator, "gate")
        follows = group.create_task(client.complete(question))
        await eventually(lambda: gateway.get("/pipeline")["totals"]["joins"] == 1)
        simulator.release("gate")
    assert leads.result().json["choices"] == follows.result().json["choices"]
    await eventually(lambda: len(kept.named(OPENAI)) == 2 and kept.named("flight"))
    leader, follower = (kept.one(OPENAI, refrain_role=role) for role in ("leader", "follower"))
    flight = kept.one("flight")
    assert (leader.trace, leader.parent) == (TRACE, CALLER)
    assert kept.below(leader) == ["cache lookup", "flight"]
    assert kept.below(flight) == STAGES
    assert follower.trace != TRACE
    assert follower.links == {"flight": flight.own}
    call = kept.one(CHAT)
    assert call.attributes["gen_ai.usage.output_tokens"] == TOKENS
    assert call.attributes["gen_ai.response.model"] == MODEL
    assert call.attributes["server.port"] == int(simulator.url.rpartition(":")[2])
    (about,) = kept.resources.values()
    assert (about["service.name"], about["team"]) == ("front-door", "chat")


async def test_preparation_shows_its_steps_and_its_own_call(
    simulator: SimulatorProcess, kept: Collector, trace: Trace
) -> None:
    """The hook is another team's service and the plan another model's: each has its own time."""
    gateway = trace(kept.url, simulator, PREPARE_URL=hook_of(simulator), PREPARE_MODEL="planner")
    async with Client(gateway.url) as client:
        assert (await client.complete("What is the plan?")).status == 200
    await eventually(lambda: kept.named("flight"))
    assert kept.below(kept.one("prepare")) == ["prepare hook", "prepare planning"]
    assert kept.below(kept.one("prepare planning")) == ["chat planner"]
    plan = kept.one("chat planner").attributes
    assert (plan["gen_ai.request.model"], plan["gen_ai.usage.output_tokens"]) == ("planner", TOKENS)
    assert kept.below(kept.one("flight")) == STAGES


async def test_links_lead_from_one_worker_to_another(
    simulator: SimulatorProcess, kept: Collector, trace: Trace
) -> None:
    """Row 93: whichever worker a request has reached, its trace leads to where the work was done."""
    gateway = trace(kept.url, simulator, workers=2)
    question = prompt("Who makes this?", hold="gate", hold_after=2)
    async with pinned(gateway, list(crew(gateway).values())) as (one, other):
        led = await accepted(one, question)
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(other.stream(led["stream_url"]))
            await held(simulator, "gate")
            follows = group.create_task(one.complete(question))
            await eventually(lambda: gateway.get("/pipeline")["totals"]["joins"] == 1)
            async with Client(gateway.url) as third:
                joined = await accepted(third, question)
                assert joined["role"] == "follower"
                simulator.release("gate")
                await third.stream(joined["stream_url"])
        assert reading.result().text == answer_to(question, TOKENS)
        assert follows.result().status == 200
        await at_rest(gateway)
    async with pinned(gateway, list(crew(gateway).values())) as clients:
        again = prompt("And who this?", hold="second", hold_after=2)
        async with asyncio.TaskGroup() as group:
            leads = group.create_task(clients[0].chunks(again))
            await held(simulator, "second")
            body = {"messages": [{"role": "user", "content": again}], "stream": True}
            async with clients[1].http.post("/v1/chat/completions", json=body) as shares:
                await shares.content.readuntil(b"\n\n")  # it has heard of the flight that it follows
                simulator.release("second")
                rest = await shares.read()
        assert text_of(leads.result()[1]) == answer_to(again, TOKENS)
        assert rest.endswith(b"data: [DONE]\n\n")
    await eventually(lambda: len(kept.named("flight")) == 2 and len(kept.named(OPENAI)) == 3)
    submit = kept.one(SUBMIT, refrain_role="leader")
    (flight,) = (span for span in kept.named("flight") if span.trace == submit.trace)
    (read,) = kept.named(STREAM, refrain_id=led["id"])
    assert read.process != flight.process == submit.process
    assert read.links == {"request": submit.own, "flight": flight.own}
    (second,) = (span for span in kept.named("flight") if span != flight)
    (followed,) = (span for span in kept.named(OPENAI) if span.links == {"flight": second.own})
    assert followed.process != second.process
    assert {about["service.name"] for about in kept.resources.values()} == {"refrain"}
    assert len(kept.resources) == 2


async def test_nothing_secret_reaches_the_collector(
    simulator: SimulatorProcess, kept: Collector, trace: Trace
) -> None:
    """Whoever keeps the traces need not be trusted with what people ask, nor with what opens a door."""
    gateway = trace(
        kept.url, simulator, workers=2, API_KEYS="canary-tenant:canary-key", OPENAI_API_KEY="canary-upstream"
    )
    question = prompt("canary-question", tokens=TOKENS)
    async with Client(gateway.url, "canary-key") as client:
        stream = await client.ask(question)
        assert stream.end.name == "done"
        assert (await client.complete(question)).status == 200
        bad = await client.call("GET", "/chat/canary-id/stream?ticket=canary-ticket")
        assert bad.status in (401, 403, 404)
    await eventually(lambda: len(kept.named(STREAM)) == 2 and kept.named(OPENAI) and kept.named("flight"))
    assert await asyncio.to_thread(gateway.stop) == 0
    first = tokens_of(question, TOKENS)[0].strip().encode()
    assert first not in kept.raw
    assert b"ticket" not in kept.raw
    assert [
        word for word in ("key", "tenant", "upstream", "question") if f"canary-{word}".encode() in kept.raw
    ] == []


async def test_a_collector_that_is_gone_or_hangs_costs_nothing(
    simulator: SimulatorProcess, trace: Trace
) -> None:
    """Traces are a convenience: no request waits for them, and the end of the process does not either."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()  # accepts, and never answers
        for port in (9, mute.getsockname()[1]):
            gateway = trace(f"http://127.0.0.1:{port}", simulator, OTEL_EXPORTER_OTLP_TIMEOUT=600)
            async with Client(gateway.url) as client:
                replies = await together([client.complete(f"Question {n} for {port}") for n in range(20)])
                assert {reply.status for reply in replies} == {200}
                await at_rest(gateway)
            assert await asyncio.to_thread(gateway.stop, 20.0) == 0
            assert "Traceback" not in gateway.output


async def test_what_is_left_is_sent_at_the_end(
    simulator: SimulatorProcess, kept: Collector, trace: Trace
) -> None:
    """The last requests before a restart are those that are asked about."""
    gateway = trace(kept.url, simulator, OTEL_BSP_SCHEDULE_DELAY=3_600_000)
    async with Client(gateway.url) as client:
        assert (await client.complete("the last one")).status == 200
    assert kept.spans == []
    assert await asyncio.to_thread(gateway.stop) == 0
    assert kept.below(kept.one("flight")) == STAGES


async def test_the_samplers_are_the_standard_ones(
    simulator: SimulatorProcess, kept: Collector, trace: Trace
) -> None:
    """OTEL_TRACES_SAMPLER works as everywhere: here only what a caller has sampled is traced."""
    gateway = trace(kept.url, simulator, OTEL_TRACES_SAMPLER="parentbased_always_off")
    async with Client(gateway.url) as client:
        assert (await client.complete("not this one")).status == 200
        sampled = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
        assert (await client.complete("but this one", headers=sampled)).status == 200
    assert await asyncio.to_thread(gateway.stop) == 0
    assert {span.trace for span in kept.spans} == {TRACE}
    assert len(kept.named("flight")) == 1


def test_traces_that_cannot_be_made_refuse_the_start() -> None:
    """A gateway that silently does not trace is found out when the trace is needed."""
    env = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
    }
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "serve", "--port", "0"],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "http/protobuf" in done.stderr
    assert "Traceback" not in done.stderr
