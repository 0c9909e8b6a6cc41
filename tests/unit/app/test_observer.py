"""What the pipeline reports: the same numbers as totals and as metrics, one closing line per request."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app.observer import PipelineObserver
from broadcast.broadcast import Broadcast
from broadcast.claim import Claim, ClaimTimers
from broadcast.lifecycle import Phase
from broadcast.log import Log
from chatbot.record import CacheResult, Record, Role
from chatbot.ticket import Ticket
from chatbot.via import OPENAI
from runtime.errors import Draining, GatewayError, InvalidRequest, QueueFull, QueueTimeout, UpstreamTruncated
from runtime.logs import JsonFormatter, request_id
from runtime.metrics import Metrics
from tests.fakes.model import delta
from tests.fakes.pipeline import Pipeline, pipeline
from tests.virtual_time import virtual
from upstream.chunk import Chunk, parse_chunk


class Watched:
    """An observer, and what it says in metrics."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.observer = PipelineObserver(self.metrics)

    def sample(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def requests(self, route: str, role: str, outcome: str) -> float:
        return self.sample("refrain_requests_total", route=route, role=role, outcome=outcome)


@asynccontextmanager
async def watched() -> AsyncIterator[tuple[Pipeline, Watched]]:
    """Every end in this pipeline is told to a real observer as well."""
    async with pipeline() as pipe:
        mine, witness = Watched(), pipe.witness
        ended, joined = witness.ended, witness.joined

        def both(record: Record) -> None:
            ended(record)
            mine.observer.ended(record)

        def joining(phase: Phase) -> None:
            joined(phase)
            mine.observer.joined(phase)

        witness.ended, witness.joined = both, joining  # type: ignore[method-assign]
        yield pipe, mine


@virtual
async def test_a_leader_a_follower_and_a_hit_are_told_apart() -> None:
    """Row 80 and 98: requests by role, cache results, tokens generated and tokens saved."""
    async with watched() as (pipe, mine):
        pipe.model.by_hand.add("q")
        leader = await pipe.ask("q")
        follower = await pipe.ask("q", OPENAI)
        call = await pipe.model.call("q")
        call.say("a")
        await asyncio.sleep(3.0)
        call.complete()
        await pipe.read(leader)
        await pipe.read(follower)
        await pipe.read(await pipe.ask("q"))
        assert mine.requests("chat", "leader", "completed") == 1
        assert mine.requests("openai", "follower", "completed") == 1
        assert mine.requests("chat", "cached", "completed") == 1
        for result, count in (("miss", 1), ("coalesced", 1), ("hit", 1), ("bypass", 0)):
            assert mine.sample("refrain_cache_requests_total", result=result) == count
        for source in ("llm", "coalesced", "cache"):
            assert mine.sample("refrain_tokens_total", source=source) == 2
        assert mine.sample("refrain_tokens_saved_total") == 4
        assert mine.sample("refrain_joins_total", phase="idle") == 1
        assert mine.sample("refrain_ttft_seconds_count") == 3
        totals = mine.observer.totals
        assert {name: totals[name] for name in ("requests", "hits", "joins", "tokens", "tokens_saved")} == {
            "requests": 3,
            "hits": 1,
            "joins": 1,
            "tokens": 6,
            "tokens_saved": 4,
        }
        assert totals["completed"] == 3
        # Both would have held a stream for the three seconds that the leader's call took.
        assert totals["seconds_saved"] == pytest.approx(6.0)
        assert mine.sample("refrain_seconds_saved_total") == pytest.approx(6.0)


@virtual
async def test_only_complete_answers_count_their_tokens() -> None:
    """A failed answer was not delivered; a cancelled one neither."""
    async with watched() as (pipe, mine):
        pipe.model.by_hand.add("q")
        record = await pipe.ask("q", OPENAI)
        call = await pipe.model.call("q")
        call.say("a")
        call.fail(UpstreamTruncated())
        await pipe.read(record)
        cancelled = await pipe.ask("r")
        pipe.cancel(cancelled)
        assert mine.requests("openai", "leader", "failed") == 1
        assert mine.requests("chat", "leader", "cancelled") == 1
        assert mine.observer.totals["tokens"] == 0
        assert mine.sample("refrain_ttft_seconds_count") == 1


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ('{"completion_tokens": 7}', 7),
        ('{"completion_tokens": "7"}', 0),
        ('{"completion_tokens": -7}', 0),
        ('{"completion_tokens": true}', 0),
        ('{"completion_tokens": 7.5}', 0),
        ("{}", 0),
        ("null", 0),
    ],
)
@virtual
async def test_a_usage_that_makes_no_sense_counts_nothing(usage: str, tokens: int) -> None:
    """It is the model's word, and a counter cannot go down."""
    mine, log = Watched(), Log[Chunk](1)
    log.extend([delta("a"), parse_chunk(b'{"choices": [], "usage": %b}' % usage.encode())])
    record = Record(Ticket.issue("t"), Role.CACHED, CacheResult.HIT, native=True, route="chat")
    broadcast = Broadcast[Chunk].landed(None, log, Idle())
    record.claim = Claim(
        record.ticket,
        broadcast,
        ClaimTimers(),
        attached=False,
        on_end=lambda claim: mine.observer.ended(record),
    )
    broadcast.join(record.claim)
    assert mine.observer.totals["completed"] == 1
    assert mine.observer.totals["tokens"] == mine.sample("refrain_tokens_total", source="cache") == tokens
    assert mine.observer.totals["tokens_saved"] == tokens


class Idle:
    """A driver with nothing to do: what has landed does not move."""

    finish_unwatched = False

    def grew(self, broadcast: Broadcast[Any]) -> None:
        """Nobody elsewhere to tell."""

    def attended(self, broadcast: Broadcast[Any]) -> None:
        """Nobody elsewhere to tell."""

    def may_abandon(self, broadcast: Broadcast[Any], *, expired: bool) -> bool:
        return True

    def entered(self, broadcast: Broadcast[Any], before: Phase) -> None:
        raise AssertionError("it has ended already")


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (QueueFull(), "shed"),
        (QueueTimeout(), "shed"),
        (Draining(), "shed"),
        (InvalidRequest(), "failed"),
        (GatewayError(), "failed"),
    ],
)
def test_a_refusal_is_a_request_that_ended(error: GatewayError, outcome: str) -> None:
    """Shed for want of room, or failed for what it was; it has no role."""
    mine = Watched()
    mine.observer.refused("chat", "t", error)
    assert mine.requests("chat", "none", outcome) == 1
    totals = mine.observer.totals
    assert (totals["requests"], totals["refused"], totals[outcome]) == (1, 1, 1)


@virtual
async def test_the_one_closing_line_tells_the_course_and_no_text(caplog: pytest.LogCaptureFixture) -> None:
    """Row 81 and I5: id, route, role, outcome and timings; under the id of the request that it is about."""
    caplog.set_level(logging.INFO, "refrain.request")
    async with watched() as (pipe, _):
        token = request_id.set("the-first")
        record = await pipe.ask("a secret question", OPENAI)
        request_id.reset(token)
        await pipe.read(record)
        (line,) = [json.loads(JsonFormatter().format(entry)) for entry in caplog.records]
        assert line["request_id"] == "the-first"
        assert line["id"] == record.ticket.id
        assert (line["route"], line["role"], line["cache"], line["outcome"]) == (
            "openai",
            "leader",
            "miss",
            "completed",
        )
        assert {"queue_ms", "prepare_ms", "slot_wait_ms", "ttft_ms", "total_ms"} <= line.keys()
        assert "secret" not in json.dumps(line)
        assert "answer to" not in json.dumps(line)
