"""What a trace shows of what went wrong, and that it makes nothing worse."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry.trace import StatusCode

from runtime.errors import PrepareFailed, UpstreamBadResponse, UpstreamUnreachable
from tests.fakes.front import COMPLETIONS, openai_body
from tests.fakes.tracing import CHAT, traced_front
from tests.fakes.turns import settle
from tests.virtual_time import virtual

STAGES = ["wait leaders", "prepare", "wait subscriber", "wait llm_streams", CHAT]
OPENAI = f"POST {COMPLETIONS}"


@virtual
async def test_a_cancelled_flight_ends_in_the_stage_it_was_in() -> None:
    """A cancel is no error: it must not raise an alarm, nor leave a span open for ever."""
    async with traced_front(streams=1) as (gate, traces):
        gate.pipe.hold("llm_streams")
        accepted = await gate.submit("q")
        async with asyncio.TaskGroup() as group:
            await gate.listen(group, accepted["stream_url"])
            await gate.post(f"/chat/{accepted['id']}/cancel", {})
        flight = traces.one("flight")
        assert traces.below(flight) == STAGES[:4]
        assert (flight.attributes or {})["refrain.outcome"] == "cancelled"
        assert {span.status.status_code for span in traces.ended} == {StatusCode.UNSET}


@virtual
async def test_a_call_that_is_made_again_is_two_calls_and_two_waits() -> None:
    """A retry that succeeds is otherwise invisible, and is often why a request was slow."""
    async with traced_front(jitter=0.0) as (gate, traces):
        gate.model.errors["q"].append(UpstreamUnreachable())
        assert (await gate.post(COMPLETIONS, openai_body("q"))).status == 200
        assert traces.below(traces.one("flight")) == [*STAGES, "wait llm_streams", CHAT]
        first, second = (traces.one(CHAT, refrain_attempt=number) for number in (1, 2))
        assert (first.attributes or {})["error.type"] == UpstreamUnreachable.code
        assert first.status.status_code is StatusCode.ERROR
        assert second.status.status_code is StatusCode.UNSET
        assert traces.one("flight").status.status_code is StatusCode.UNSET


@virtual
async def test_a_failure_is_an_error_on_the_way_up() -> None:
    """The call, the flight and the request say which error it was, by its public code and not by its text."""
    async with traced_front() as (gate, traces):
        gate.model.errors["q"].append(UpstreamBadResponse("what the model wrote"))
        peer = await gate.post(COMPLETIONS, openai_body("q"))
        for name in (CHAT, "flight", OPENAI):
            span = traces.one(name)
            assert span.status.status_code is StatusCode.ERROR, name
            assert (span.attributes or {})["error.type"] == UpstreamBadResponse.code
        assert (traces.one(OPENAI).attributes or {})["http.response.status_code"] == peer.status
        assert "what the model wrote" not in traces.everything()


@virtual
async def test_a_failed_preparation_is_seen_at_its_step() -> None:
    """The hook is somebody else's service: a trace says that it was at fault."""
    async with traced_front(hook=True) as (gate, traces):
        gate.pipe.hook.error = PrepareFailed()
        await gate.post(COMPLETIONS, openai_body("q"))
        assert traces.below(traces.one("flight")) == ["wait leaders", "prepare"]
        for name in ("prepare", "prepare hook", "flight"):
            assert traces.one(name).status.status_code is StatusCode.ERROR, name


@virtual
async def test_what_the_caller_did_wrong_is_told_and_is_no_error() -> None:
    """A 422 is a good answer to a bad request; error rates would follow the worst client."""
    async with traced_front() as (gate, traces):
        assert (await gate.post("/chat", {"nonsense": 1})).status == 422
        span = traces.one("POST /chat")
        assert (span.attributes or {})["error.type"] == "invalid_request"
        assert span.status.status_code is StatusCode.UNSET


@virtual
async def test_a_failure_after_the_status_is_an_error_all_the_same() -> None:
    """The 200 has gone out by then, and the answer is worth nothing."""
    async with traced_front() as (gate, traces), asyncio.TaskGroup() as group:
        _, call = await gate.asked(group, "q", stream=True)
        call.say("half of a")
        await settle()
        call.fail(UpstreamBadResponse())
        await settle()
        span = traces.one(OPENAI)
        assert (span.attributes or {})["http.response.status_code"] == 200
        assert span.status.status_code is StatusCode.ERROR


@virtual
@pytest.mark.parametrize("given", ["nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "\xff"])
async def test_a_bad_traceparent_is_as_none(given: str) -> None:
    """A header that any client may send must not fail its request."""
    async with traced_front() as (gate, traces):
        peer = await gate.post(COMPLETIONS, openai_body("q"), headers={"traceparent": given})
        assert peer.status == 200
        assert traces.one(OPENAI).parent is None


@virtual
async def test_a_broken_tracer_costs_a_line_and_no_request(caplog: pytest.LogCaptureFixture) -> None:
    """Tracing describes what happens; a bug in it must not change that."""
    async with traced_front() as (gate, traces):
        called = traces.tracing.flights._called
        called._attributes = None  # type: ignore[assignment]
        peer = await gate.post(COMPLETIONS, openai_body("q"))
        assert peer.status == 200
        assert peer.json["choices"][0]["finish_reason"] == "stop"
        assert "a span could not be described" in caplog.text
