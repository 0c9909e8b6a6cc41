"""Calls of the model that preparation makes: each has a span, and the model is told nothing of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from opentelemetry.trace import StatusCode

from app.telemetry.calls import Called
from app.telemetry.flights import FlightSpans
from app.telemetry.watched import TracedClient
from broadcast.broadcast import Broadcast
from broadcast.lifecycle import Phase
from broadcast.log import Log
from runtime.errors import UpstreamError
from runtime.supervisor import Supervisor
from tests.fakes.claims import RecordingDriver
from tests.fakes.permit import FakePermit
from tests.fakes.tracing import UPSTREAM, Traces
from tests.fakes.upstream import ScriptedUpstream, answer, reply
from upstream.chunk import Chunk

pytestmark = pytest.mark.anyio

BODY = {"model": "planner", "messages": []}


class Planning:
    """A flight whose preparation asks a scripted model."""

    def __init__(self, client: TracedClient) -> None:
        self.traces = Traces()
        self.flights = FlightSpans(self.traces.spans, Called(UPSTREAM, simulated=False))
        self.broadcast: Broadcast[Chunk] = Broadcast("key", Log(1), RecordingDriver())
        self.client = client
        self.flights.begin(self.broadcast)
        self.broadcast.phase = Phase.PREPARING
        self.flights.entered(self.broadcast, None)
        self.flights.step(self.broadcast, "planning")

    async def ask(self, chunks: int | None = None) -> list[Chunk]:
        """Its call, left after so many chunks."""
        got: list[Chunk] = []
        with self.flights.preparing(self.broadcast):
            async with self.client.stream(FakePermit(), BODY) as batches:
                async for batch in batches:
                    got += batch
                    if chunks is not None and len(got) >= chunks:
                        break
        return got


@asynccontextmanager
async def planning(*scripts: Any) -> AsyncIterator[tuple[Planning, ScriptedUpstream]]:
    async with ScriptedUpstream(list(scripts)) as upstream:
        client = TracedClient(upstream.base_url, supervisor=Supervisor())
        try:
            yield Planning(client), upstream
        finally:
            await client.close()


async def test_the_model_is_told_nothing_of_the_trace() -> None:
    """It is a third party as a rule: who asks, and what belongs together, is not its business."""
    async with planning(answer("a plan")) as (plan, upstream):
        assert "".join([chunk.text for chunk in await plan.ask()]) == "a plan"
        (request,) = upstream.requests
        assert "traceparent" not in request.headers
        assert plan.broadcast.traceparent.split("-")[1] not in str(request)


async def test_the_plan_is_a_call_within_its_step() -> None:
    """Two models in one request: their tokens must not be taken for each other's."""
    async with planning(answer("a", "plan")) as (plan, _):
        await plan.ask()
        span = plan.traces.one("chat planner")
        told = span.attributes or {}
        assert told["gen_ai.response.finish_reasons"] == ("stop",)
        assert told["server.address"] == "model.example"
        assert [event.name for event in span.events] == ["first token"]
        assert span.status.status_code is StatusCode.UNSET


async def test_a_plan_that_fails_is_a_failed_call() -> None:
    """A slow preparation whose first call has failed looks the same without it."""
    async with planning([reply("503 Service Unavailable", b"canary")]) as (plan, _):
        with pytest.raises(UpstreamError) as caught:
            await plan.ask()
        span = plan.traces.one("chat planner")
        assert (span.attributes or {})["error.type"] == caught.value.code
        assert span.status.status_code is StatusCode.ERROR
        assert "canary" not in plan.traces.everything()


async def test_a_plan_that_is_left_is_a_call_that_has_ended() -> None:
    """Its flight was cancelled: that is no error, and no reason to keep a span open."""
    async with planning(answer("a", "b", "c")) as (plan, _):
        assert (await plan.ask(1))[0].text == "a"
        assert plan.traces.one("chat planner").status.status_code is StatusCode.UNSET


async def test_a_call_outside_of_preparation_has_no_span_of_its_own() -> None:
    """That of an answer is its flight's, which knows the wait before it as well."""
    async with planning(answer("text")) as (plan, _):
        async with plan.client.stream(FakePermit(), BODY) as batches:
            assert [chunk async for batch in batches for chunk in batch]
        assert plan.traces.named("chat planner") == []
