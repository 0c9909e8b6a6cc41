"""The parts of one process: each limit once, each part from its setting, and an end that may come twice."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.gateway import SPARE_CONNECTIONS, Addresses, Gateway
from chatbot.request import ChatRequest
from config.settings import Settings
from tests.fakes.running_app import NO_REDIS, NOWHERE, running_app
from tests.fakes.upstream import ScriptedUpstream, reply

pytestmark = pytest.mark.anyio

BODY = {"model": "m", "messages": [{"role": "user", "content": "q"}]}


def built(addresses: Addresses | None = None, **settings: Any) -> Gateway:
    return Gateway(Settings(**settings), addresses or Addresses(NOWHERE, NO_REDIS), lambda name: None)


def key(gateway: Gateway) -> str:
    """Under what this gateway shares one question."""
    return gateway._keys().key("tenant", BODY)


async def test_every_limit_is_built_once_and_from_its_own_setting() -> None:
    """All different, so that none can stand in for another; and room for each stream at the upstream."""
    gateway = built(
        max_concurrent_leaders=2,
        max_concurrent_followers=3,
        max_concurrent_llm_streams=5,
        max_concurrent_llm_calls=7,
        queue_size=11,
        cache_workers=13,
    )
    stages = {stage.name: (stage.capacity, stage.max_waiting) for stage in gateway.stages}
    assert stages == {
        "leaders": (2, 11),
        "followers": (3, 11),
        "llm_streams": (5, None),
        "llm_calls": (7, None),
    }
    assert (gateway.lane.stats().capacity, gateway.lane.stats().max_waiting) == (13, 11)
    assert gateway.client.stats().connections == 5 + 7 + SPARE_CONNECTIONS
    await gateway.close()


async def test_what_changes_an_answer_changes_its_key() -> None:
    """An edit of the preparation must not be served yesterday's answers."""
    gateways = [
        built(),
        built(prepare_url="http://127.0.0.1:9/prepare"),
        built(prepare_url="http://127.0.0.1:9/prepare?v=2"),
        built(prepare_model="planner"),
        built(upstream_cumulative=True),
        built(Addresses("http://127.0.0.1:10/v1", NO_REDIS)),
    ]
    assert len({key(gateway) for gateway in gateways}) == len(gateways)
    for gateway in gateways:
        await gateway.close()


async def test_what_does_not_change_an_answer_does_not_change_its_key() -> None:
    """Limits and timers are nobody's answer; a simulated model says the same at every address."""
    first, second = built(queue_size=1), built(queue_size=2, stream_timeout_s=900.0)
    assert key(first) == key(second)
    simulated = [
        built(Addresses(f"http://127.0.0.1:{port}/v1", NO_REDIS, simulated=True)) for port in (9, 10)
    ]
    assert key(simulated[0]) == key(simulated[1]) != key(first)
    for gateway in (first, second, *simulated):
        await gateway.close()


async def test_only_a_request_without_a_model_asks_for_the_upstreams_first() -> None:
    """Whoever names one waits for nobody."""
    models = json.dumps({"data": [{"id": "first"}, {"id": "second"}]}).encode()
    async with (
        ScriptedUpstream([[reply("200 OK", models)]]) as upstream,
        running_app(upstream.base_url) as app,
    ):
        gateway: Gateway = app.state.gateway
        named = ChatRequest(BODY)
        assert await gateway.with_default_model(named) is named
        assert upstream.requests == []
        for model in ({}, {"model": None}, {"model": ""}):
            request = await gateway.with_default_model(ChatRequest({**model, "messages": []}))
            assert request.body == {"model": "first", "messages": []}
        assert len(upstream.requests) == 1


async def test_the_drain_shows_before_it_bites() -> None:
    """Readiness and the door change together; what is told first is readiness."""
    async with running_app() as app:
        gateway: Gateway = app.state.gateway
        assert (gateway.state, gateway.manager.draining) == ("ready", False)
        gateway.begin_drain()
        assert (gateway.state, gateway.manager.draining) == ("draining", True)


async def test_it_may_be_closed_twice() -> None:
    """A forced exit skips the lifespan's end, an ordinary one does not."""
    async with running_app() as app:
        gateway: Gateway = app.state.gateway
        await gateway.close()
        assert len(gateway.supervisor) == 0
    assert gateway.supervisor.healthy
