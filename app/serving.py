"""`refrain serve`: what one instance consists of, started in order and stopped in reverse."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

from app.gateway import Addresses
from app.listening import listen
from app.main import create_app
from app.runner import run_loop
from app.server import Server, configuration
from app.simulate import SimulatorChild
from app.stopping import Stop
from app.telemetry.asked import asked_for, problems
from app.workers import Workers
from cache.embedded import EmbeddedRedis, NoServer
from cache.folders import FolderError
from cache.targets import RedisTarget
from config.loading import SettingsError
from config.settings import Settings
from runtime.supervisor import Supervisor


async def serve(settings: Settings, flags: Mapping[str, str], stop: Stop) -> int:
    """Run until told to stop; the exit status. Raises OSError if the address cannot be had.

    `flags` are the command line's, which workers are given as well.
    """
    starting = asyncio.current_task()
    assert starting is not None
    stop.means(lambda number: _unwind(starting, stop))
    sock = listen(settings.host, settings.port)
    supervisor = Supervisor(on_crash=lambda name: signal.raise_signal(signal.SIGTERM))
    try:
        async with _addresses(settings, supervisor) as addresses:
            if settings.web_concurrency > 1:
                return await _serve_by_workers(settings, flags, addresses, supervisor, sock, stop)
            return await _serve(settings, addresses, supervisor, sock, stop)
    except asyncio.CancelledError:
        if not stop.asked:
            raise
        return 0  # told to stop before it had started
    finally:
        stop.means(None)
        await supervisor.close()
        sock.close()


async def _serve(
    settings: Settings, addresses: Addresses, supervisor: Supervisor, sock: socket.socket, stop: Stop
) -> int:
    app = create_app(settings, replace(addresses, traced=asked_for(os.environ)))
    gateway = app.state.gateway
    server = Server(configuration(app), gateway, settings.drain_timeout_s)
    stop.means(server.signalled)
    _greet(settings, addresses, sock)
    try:
        await server.serve(sockets=[sock])
    finally:
        stop.means(None)
        # A forced exit skips the lifespan's end; what it would have closed is closed here.
        await gateway.close()
    healthy = gateway.supervisor.healthy and supervisor.healthy
    return 0 if server.started and healthy else 1


async def _serve_by_workers(
    settings: Settings,
    flags: Mapping[str, str],
    addresses: Addresses,
    supervisor: Supervisor,
    sock: socket.socket,
    stop: Stop,
) -> int:
    workers = Workers(settings, flags, addresses, sock, supervisor)
    try:
        started = await workers.start(fresh=settings.redis_url is None)
        stop.means(workers.signalled)
        if started:
            _greet(settings, addresses, sock)
        else:
            _say("Not every worker has begun to serve; they are still tried.")
        await workers.until_over()
    finally:
        await workers.close()
    return 0 if supervisor.healthy else 1


def _unwind(starting: asyncio.Task[Any], stop: Stop) -> None:
    stop.means(None)
    starting.cancel()


@asynccontextmanager
async def _addresses(settings: Settings, supervisor: Supervisor) -> AsyncIterator[Addresses]:
    """Start what was not configured: a Redis of our own, a simulated model. Both end with us."""
    connections = settings.cache_workers + 4
    async with AsyncExitStack() as stack:
        if settings.redis_url is not None:
            target = RedisTarget(settings.redis_url.get_secret_value(), connections)
        else:
            target = await _embedded(settings, supervisor, stack, connections)
        shared = settings.redis_url is not None or settings.web_concurrency > 1
        if settings.upstream_base_url is not None:
            yield Addresses(settings.upstream_base_url, target, shared=shared)
            return
        simulator = SimulatorChild()
        stack.push_async_callback(simulator.stop)
        await simulator.start(supervisor)
        yield Addresses(simulator.url, target, simulated=True, shared=shared)


async def _embedded(
    settings: Settings, supervisor: Supervisor, stack: AsyncExitStack, connections: int
) -> RedisTarget:
    redis = EmbeddedRedis(None, str(settings.port), settings.embedded_redis_bytes)
    stack.push_async_callback(redis.stop)
    try:
        ready = await redis.start(supervisor)
    except (NoServer, FolderError) as error:
        # Served without a cache, and readiness says so: a gateway that does not start helps nobody.
        _say(f"No embedded Redis ({error}); answers are shared while they run, but not cached.")
        return RedisTarget("unix:///nonexistent/refrain.sock", connections)
    if not ready:
        _say("The embedded Redis has not answered yet; serving without a cache until it does.")
    assert redis.socket_path is not None
    return RedisTarget.unix(redis.socket_path, connections)


def _greet(settings: Settings, addresses: Addresses, sock: socket.socket) -> None:
    host, port = sock.getsockname()[:2]
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 - shown, not bound
    base = f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
    if addresses.simulated:
        _say("No upstream is configured (OPENAI_BASE_URL): answers come from the built-in SIMULATED model.")
    else:
        _say(f"Upstream: {addresses.upstream_url}")
    if settings.web_concurrency > 1:
        _say(f"{settings.web_concurrency} workers.")
    if settings.redis_url is None:
        _say("Redis: embedded, in memory only; its cache is lost on restart.")
    _say(_first_steps(base, " -H 'authorization: Bearer YOUR_KEY'" if settings.api_keys else ""))


def _first_steps(base: str, key: str) -> str:
    """Three lines to paste: submit, subscribe, and the same through the OpenAI wire."""
    ask = """--json '{"message": "What is a refrain?"}'"""
    chat = """--json '{"stream": true, "messages": [{"role": "user", "content": "What is a refrain?"}]}'"""
    url = f"""$(curl -s {base}/chat{key} {ask} | sed 's/.*"stream_url":"\\([^"]*\\)".*/\\1/')"""
    return f"""
Refrain is at {base}/

  curl -s {base}/chat{key} {ask}
  curl -N "{base}{url}"
  curl -N {base}/v1/chat/completions{key} {chat}
"""


def _say(text: str) -> None:
    print(text, file=sys.stdout, flush=True)


def run(settings: Settings, flags: Mapping[str, str]) -> int:
    """Block until the instance has ended. Takes the process's signals over.

    Raises SettingsError if traces are asked for that cannot be made.
    """
    if found := problems(os.environ):
        raise SettingsError(found)
    stop = Stop()
    stop.install()
    try:
        return run_loop(serve(settings, flags, stop))
    finally:
        stop.ignore()
