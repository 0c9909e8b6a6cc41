"""The operator's routes: health, readiness, metrics and the pipeline."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from itertools import pairwise

import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient
from starlette.types import Message

from app.gateway import Gateway
from app.history import EVERY_S, FIELDS
from app.routes.ops import FRAME_S
from runtime.metrics import STAGES
from tests.fakes.asgi import Peer
from tests.fakes.eventually import eventually
from tests.fakes.running_app import application, running_app
from tests.fakes.upstream import HANG, ScriptedUpstream, answer

GUARDED = ("/", "/metrics", "/pipeline", "/pipeline/history", "/pipeline/stream")
ADMIN = "an-admin-key"


@pytest.fixture
def app() -> FastAPI:
    return application()


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client


def test_health_is_the_processes_own(client: TestClient) -> None:
    """Row 79: with Redis and the model away, and every pool full, it can still serve."""
    reply = client.get("/healthz")
    assert (reply.status_code, reply.json()) == (200, {"status": "ok"})


def test_readiness_names_what_is_away(client: TestClient) -> None:
    """Row 14 and 79: degraded is ready; the component says why."""
    reply = client.get("/readyz")
    assert reply.status_code == 200
    assert reply.json()["status"] == "degraded"
    assert reply.json()["components"]["upstream"] == "unreachable"
    assert reply.json()["components"].keys() == {"redis", "upstream"}


@pytest.mark.anyio
async def test_a_model_that_accepts_connections_is_reachable() -> None:
    """It need not answer: asking it for something would cost."""
    async with ScriptedUpstream([[HANG]]) as upstream, running_app(upstream.base_url) as app:
        peer = await Peer("GET", "/readyz").call(app)
        assert peer.json["components"]["upstream"] == "ok"
        assert upstream.requests == []


@pytest.mark.parametrize("state", ["starting", "draining"])
def test_readiness_is_red_while_starting_and_draining(app: FastAPI, client: TestClient, state: str) -> None:
    """Row 79 and 87: whoever balances the load is told by a 503; health stays green."""
    app.state.gateway.state = state
    reply = client.get("/readyz")
    assert (reply.status_code, reply.json()) == (503, {"status": state})
    assert int(reply.headers["retry-after"]) >= 1
    assert client.get("/healthz").status_code == 200


def test_readiness_is_red_when_a_part_of_the_process_has_died(app: FastAPI, client: TestClient) -> None:
    """A crashed loop must not hide behind a port that answers."""
    app.state.gateway.supervisor.crashed = "pulse"
    reply = client.get("/readyz")
    assert (reply.status_code, reply.json()) == (503, {"status": "failed"})


def test_before_its_start_it_is_not_ready(app: FastAPI) -> None:
    """The lifespan opens the gate, not the constructor."""
    assert app.state.gateway.state == "starting"
    with TestClient(app) as client:
        assert client.get("/readyz").status_code == 200


def test_metrics_speak_prometheus_and_tell_every_stage(client: TestClient) -> None:
    """Row 80: the text format, each stage's numbers from the start, at rest all permits free."""
    reply = client.get("/metrics")
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name: family for family in text_string_to_metric_families(reply.text)}
    stages = {sample.labels["stage"]: sample.value for sample in families["refrain_stage_capacity"].samples}
    assert stages == {"cache": 4, "leaders": 32, "followers": 256, "llm_streams": 64, "llm_calls": 16}
    assert tuple(stages) == STAGES
    for name in ("refrain_stage_in_use", "refrain_stage_waiting", "refrain_permits_reclaimed"):
        assert {sample.value for sample in families[name].samples} == {0}
    for name in ("refrain_subscribers", "refrain_broadcasts", "refrain_upstream_in_flight"):
        assert [sample.value for sample in families[name].samples] == [0]


@pytest.mark.anyio
async def test_pipeline_and_metrics_show_the_same_numbers_as_the_model_saw() -> None:
    """Row 80 and 98: what the gateway counts is what happened."""
    async with ScriptedUpstream([answer("a", "b")]) as upstream, running_app(upstream.base_url) as app:
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "q"}]}).encode()
        for _ in range(2):
            assert (await Peer("POST", "/v1/chat/completions", body=body).call(app)).status == 200
        # The answer is given before the call's connection is put away.
        gateway: Gateway = app.state.gateway
        await upstream_is_at_rest(gateway)
        totals = (await Peer("GET", "/pipeline").call(app)).json["totals"]
        assert [request.method for request in upstream.requests].count("POST") == 1
        assert (totals["upstream_calls"], totals["hits"], totals["requests"]) == (1, 1, 2)
        metrics = (await Peer("GET", "/metrics").call(app)).body.decode()
        samples = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(metrics)
            for sample in family.samples
        }
        assert samples["refrain_upstream_calls_total", ("outcome", "completed")] == 1
        assert samples["refrain_stage_admitted_total", ("stage", "llm_streams")] == 1
        assert samples["refrain_stage_released_total", ("stage", "llm_streams")] == 1
        for role in ("leader", "cached"):
            labels = (("outcome", "completed"), ("role", role), ("route", "openai"))
            assert samples["refrain_requests_total", *labels] == 1


async def upstream_is_at_rest(gateway: Gateway) -> None:
    await eventually(lambda: gateway.llm_streams.stats().in_use == gateway.client.stats().in_flight == 0)


@pytest.mark.parametrize("path", GUARDED)
def test_what_shows_the_traffic_needs_the_admin_key_where_there_is_one(path: str) -> None:
    """A tenant's key is no operator's; without an admin key all is open."""
    with TestClient(application(admin_key=ADMIN, api_keys="t:tenant-key-1")) as client:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Bearer tenant-key-1"}):
            reply = client.get(path, headers=headers)
            assert reply.status_code == 401
            assert reply.json()["error"]["code"] == "invalid_api_key"
            assert reply.headers["www-authenticate"] == "Bearer"
            assert reply.headers["x-should-retry"] == "false"
        if path != "/pipeline/stream":
            assert client.get(path, headers={"authorization": f"bearer {ADMIN}"}).status_code == 200


def test_health_and_readiness_need_no_key() -> None:
    """Probes have none."""
    with TestClient(application(admin_key=ADMIN, api_keys="t:tenant-key-1")) as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 200


class Stamping(Peer):
    """Notes when each piece of the body came."""

    def __init__(self, method: str, target: str) -> None:
        super().__init__(method, target)
        self.sent_at: list[float] = []

    async def send(self, message: Message) -> None:
        if message.get("body"):
            self.sent_at.append(asyncio.get_running_loop().time())
        await super().send(message)


@pytest.mark.anyio
async def test_the_pipeline_is_streamed_as_events_and_ends_with_the_drain() -> None:
    """At most four a second; each frame is the whole snapshot."""
    async with running_app() as app, asyncio.TaskGroup() as group:
        peer = Stamping("GET", "/pipeline/stream")
        task = group.create_task(peer.call(app))
        await peer.until(lambda: len(peer.events) >= 3)
        gaps = [later - earlier for earlier, later in pairwise(peer.sent_at)]
        assert min(gaps) >= FRAME_S * 0.99
        assert peer.headers["content-type"].startswith("text/event-stream")
        assert peer.headers["x-accel-buffering"] == "no"
        assert "no-store" in peer.headers["cache-control"]
        assert {event.name for event in peer.events} == {"message"}
        plain = (await Peer("GET", "/pipeline").call(app)).json
        assert peer.events[0].json.keys() == plain.keys()
        app.state.gateway.begin_drain()
        await task
        assert peer.complete


@pytest.mark.anyio
async def test_a_reader_of_the_pipeline_that_leaves_is_let_go() -> None:
    """The page is open in forgotten tabs: a frame for nobody must end."""
    async with running_app() as app, asyncio.TaskGroup() as group:
        peer = Peer("GET", "/pipeline/stream")
        task = group.create_task(peer.call(app))
        await peer.until(lambda: peer.events)
        peer.leave()
        async with asyncio.timeout(10):
            await task


@pytest.mark.anyio
async def test_the_last_minutes_are_told_by_the_second() -> None:
    """A page that is opened in the middle of an incident shows how it began."""
    async with running_app() as app:
        await eventually(lambda: app.state.gateway.supervisor.healthy)
        told = (await Peer("GET", "/pipeline/history").call(app)).json
        assert told["every_s"] == EVERY_S
        assert told["fields"] == list(FIELDS)
        assert {len(row) for row in told["rows"]} == {len(FIELDS)}
        assert (await Peer("GET", "/pipeline/history?worker=1").call(app)).json == told
        assert (await Peer("GET", "/pipeline/history?worker=2").call(app)).json["rows"] == []
