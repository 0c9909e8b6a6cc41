"""The pipeline as it is now: the shape of `/pipeline`, and that it shows what is, without any text."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest

from app.gateway import Gateway
from app.instance import pipeline
from app.readings import Instance, reading
from app.snapshot import LISTED, stage_readings
from runtime.metrics import STAGES
from tests.fakes.asgi import Peer
from tests.fakes.running_app import running_app
from tests.fakes.upstream import STREAM_HEAD, Gate, Script, ScriptedUpstream, delta, event

pytestmark = pytest.mark.anyio


def asking(prompt: str) -> Peer:
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": prompt}]}
    return Peer("POST", "/v1/chat/completions", body=json.dumps(body).encode())


def shown_by(gateway: Gateway) -> dict[str, Any]:
    return pipeline(Instance([reading(gateway)]))


def by_name(shown: dict[str, Any]) -> dict[str, Any]:
    return {stage["name"]: stage for stage in shown["stages"]}


async def test_at_rest_every_stage_is_listed_and_free() -> None:
    """The five stages in the order of the pipeline, each with the documented fields."""
    async with running_app(max_concurrent_leaders=3, queue_size=7) as app:
        shown = shown_by(app.state.gateway)
        assert shown.keys() == {
            "state", "model", "stages", "broadcasts", "preparation", "totals", "workers",
        }  # fmt: skip
        assert shown["preparation"] == {"steps": {}, "tools": []}
        assert tuple(by_name(shown)) == STAGES
        for name, stage in by_name(shown).items():
            assert stage.keys() == {
                "name", "scope", "capacity", "in_use", "waiting", "max_waiting", "oldest_wait_ms",
                "admitted", "refused",
            }  # fmt: skip
            assert (stage["in_use"], stage["waiting"], stage["oldest_wait_ms"]) == (0, 0, 0)
            assert stage["scope"] == ("shared" if name.startswith("llm_") else "process")
        assert (by_name(shown)["leaders"]["capacity"], by_name(shown)["leaders"]["max_waiting"]) == (3, 7)
        assert shown["broadcasts"] == []
        assert shown["totals"]["upstream_in_flight"] == shown["totals"]["subscribers"] == 0


async def test_what_runs_and_what_waits_is_shown_without_a_word_of_it() -> None:
    """I5: phases, counts and ages; the prompt and the answer are nobody's business here."""
    gate = Gate()
    script: Script = [STREAM_HEAD, event(delta("a secret answer")), gate]
    async with (
        ScriptedUpstream([script]) as upstream,
        running_app(upstream.base_url, max_concurrent_llm_streams=1) as app,
        asyncio.TaskGroup() as group,
        AsyncExitStack() as stack,
    ):
        gateway: Gateway = app.state.gateway
        peers = [asking(f"a secret prompt {number}") for number in range(3)]
        for peer in peers:
            group.create_task(peer.call(app))
            stack.callback(peer.leave)
        await upstream.until(lambda: len(upstream.requests) == 1)
        await peers[0].until(lambda: peers[0].events)
        shown = shown_by(gateway)
        streams = by_name(shown)["llm_streams"]
        assert (streams["in_use"], streams["waiting"]) == (1, 2)
        assert streams["oldest_wait_ms"] >= 0
        phases = sorted(broadcast["phase"] for broadcast in shown["broadcasts"])
        assert phases == ["live", "queued", "queued"]
        for broadcast in shown["broadcasts"]:
            assert broadcast.keys() == {"id", "phase", "subscribers", "events", "age_ms", "processes"}
            assert broadcast["subscribers"] == 1
        totals = shown["totals"]
        assert (totals["broadcasts"], totals["subscribers"], totals["upstream_in_flight"]) == (3, 3, 1)
        assert "secret" not in json.dumps(shown)
        readings = {reading.name: reading for reading in stage_readings(gateway)}
        assert readings["llm_streams"].in_use == streams["in_use"]
        assert readings["llm_streams"].admitted == readings["llm_streams"].released + 1


async def test_a_long_list_of_broadcasts_is_counted_and_not_shown_in_full() -> None:
    """A snapshot four times a second must stay small."""
    async with running_app(max_pending=LISTED + 50) as app:
        for number in range(LISTED + 5):
            body = json.dumps({"model": "m", "message": f"q{number}"}).encode()
            assert (await Peer("POST", "/chat", body=body).call(app)).status == 202
        shown = shown_by(app.state.gateway)
        assert len(shown["broadcasts"]) == LISTED
        assert shown["totals"]["broadcasts"] == shown["totals"]["records"] == LISTED + 5
