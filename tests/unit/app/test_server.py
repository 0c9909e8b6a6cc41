"""The drain: what a signal starts, what it waits for, and when it is over."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI

from app.gateway import Gateway
from app.protocol import GuardedProtocol
from app.server import FLUSH_S, Server, configuration
from tests.fakes.asgi import Peer
from tests.fakes.eventually import eventually
from tests.fakes.running_app import running_app
from tests.fakes.upstream import END, STREAM_HEAD, Gate, Script, ScriptedUpstream, delta, event

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def drainable(
    upstream: str, drain_timeout_s: float = 60.0, **settings: Any
) -> AsyncIterator[tuple[FastAPI, Gateway, Server]]:
    """A running application, and the server that would drain it."""
    async with running_app(upstream, abandon_grace_s=0, **settings) as app:
        gateway: Gateway = app.state.gateway
        yield app, gateway, Server(configuration(app), gateway, drain_timeout_s)


def asking(path: str = "/v1/chat/completions") -> Peer:
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "q"}]}
    return Peer("POST", path, body=json.dumps(body).encode())


async def test_nothing_to_wait_for_is_over_at_once() -> None:
    """A second signal changes nothing."""
    async with ScriptedUpstream([[]]) as upstream, drainable(upstream.base_url) as (_, gateway, server):
        server.begin_drain()
        server.begin_drain()
        assert gateway.state == "draining"
        await eventually(lambda: server.should_exit)
        assert not server.force_exit


async def test_a_running_stream_finishes_and_new_work_is_refused() -> None:
    """Row 87: the socket stays open for both."""
    gate = Gate()
    script: Script = [
        STREAM_HEAD,
        event(delta("a")),
        gate,
        event(delta(finish="stop")),
        event(b"[DONE]") + END,
    ]
    async with (
        ScriptedUpstream([script]) as upstream,
        drainable(upstream.base_url) as (app, _, server),
        asyncio.TaskGroup() as group,
    ):
        peer = asking()
        group.create_task(peer.call(app))
        await peer.until(lambda: peer.events)
        server.begin_drain()
        refused = await asking().call(app)
        assert (refused.status, refused.error["code"]) == (503, "draining")
        assert not server.should_exit
        gate.open()
        await peer.until(lambda: peer.complete)
        assert peer.events[-1].data == "[DONE]"
        await eventually(lambda: server.should_exit)


async def test_what_is_not_over_by_the_timeout_gets_its_terminal_event() -> None:
    """One error frame, then the end: a client learns that it may ask elsewhere."""
    script: Script = [STREAM_HEAD, event(delta("a")), Gate()]
    async with (
        ScriptedUpstream([script]) as upstream,
        drainable(upstream.base_url, drain_timeout_s=0) as (app, _, server),
        asyncio.TaskGroup() as group,
    ):
        peer = asking()
        group.create_task(peer.call(app))
        await peer.until(lambda: peer.events)
        server.begin_drain()
        await peer.until(lambda: peer.complete)
        assert peer.events[-1].json["error"]["code"] == "draining"
        await eventually(lambda: server.should_exit)
        await upstream.until(lambda: upstream.aborted == 1)


async def test_what_nobody_has_come_to_hear_is_waited_for_no_longer_than_the_grace() -> None:
    """A prepared answer without a listener would hold the process for the whole timeout."""
    async with ScriptedUpstream([[]]) as upstream, drainable(upstream.base_url) as (app, gateway, server):
        body = b'{"model": "m", "message": "q"}'
        chat = (await Peer("POST", "/chat", body=body).call(app)).json
        server.begin_drain()
        await eventually(lambda: server.should_exit)
        peer = await Peer("GET", chat["stream_url"]).call(app)
        assert (peer.end.name, peer.end.json["code"]) == ("failed", "draining")
        assert gateway.broadcasts.running == {}


async def test_a_dead_part_ends_the_process_at_once() -> None:
    """Nothing that runs can be trusted to finish: it is told so, and the exit does not wait."""
    script: Script = [STREAM_HEAD, event(delta("a")), Gate()]
    async with (
        ScriptedUpstream([script]) as upstream,
        drainable(upstream.base_url) as (app, gateway, server),
        asyncio.TaskGroup() as group,
    ):
        peer = asking()
        group.create_task(peer.call(app))
        await peer.until(lambda: peer.events)
        gateway.supervisor.crashed = "pulse"
        server.begin_drain()
        assert server.should_exit
        await peer.until(lambda: peer.complete)
        assert peer.events[-1].json["error"]["code"] == "draining"


async def _run(peer: Peer, app: FastAPI) -> None:
    await peer.call(app)


async def test_a_second_interrupt_ends_it_at_once() -> None:
    """The first Ctrl-C drains like SIGTERM; the second means it."""
    script: Script = [STREAM_HEAD, event(delta("a")), Gate()]
    async with (
        ScriptedUpstream([script]) as upstream,
        drainable(upstream.base_url) as (app, gateway, server),
        asyncio.TaskGroup() as group,
    ):
        peer = asking()
        task = group.create_task(_run(peer, app))
        server.server_state.tasks.add(task)
        await peer.until(lambda: peer.events)
        server._interrupt()
        assert (gateway.state, server.should_exit, server.force_exit) == ("draining", False, False)
        server._interrupt()
        assert (server.should_exit, server.force_exit) == (True, True)
        await asyncio.wait({task})
        assert task.cancelled()


async def test_the_server_is_configured_to_leave_the_end_to_us() -> None:
    """No header of uvicorn's, no proxy's word taken, our own protocol, and a flush that is bounded."""
    async with running_app() as app:
        config = configuration(app)
        assert config.http is GuardedProtocol
        assert (config.ws, config.lifespan) == ("none", "on")
        assert (config.server_header, config.proxy_headers, config.access_log) == (False, False, False)
        assert config.timeout_graceful_shutdown == FLUSH_S
        assert config.limit_concurrency is None
