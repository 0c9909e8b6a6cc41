"""One worker of several: what its parent has handed over, and then what a process that is alone does too."""

from __future__ import annotations

import os
import socket

from app.framing import read_now
from app.gateway import Addresses
from app.hub import WorkerHub
from app.main import create_app
from app.runner import run_loop
from app.server import Server, configuration
from app.stopping import Stop
from app.telemetry.asked import asked_for
from cache.targets import RedisTarget
from config.loading import load
from config.settings import Settings


def run(fd: int, control: int) -> int:
    """Serve on the socket `fd` until told to stop; `control` is the line to the parent."""
    sock, line = socket.socket(fileno=fd), socket.socket(fileno=control)
    handover = read_now(line)
    settings = load(os.environ, handover["flags"])
    addresses = Addresses(
        handover["upstream"],
        RedisTarget(handover["redis"], settings.cache_workers + 4),
        simulated=handover["simulated"],
        shared=True,
        proc=handover["proc"],
        worker=handover["worker"],
        workers=handover["workers"],
        traced=asked_for(os.environ),
    )
    stop = Stop()
    stop.install()
    try:
        return run_loop(_serve(settings, addresses, sock, line, stop))
    finally:
        stop.ignore()


async def _serve(
    settings: Settings, addresses: Addresses, sock: socket.socket, line: socket.socket, stop: Stop
) -> int:
    app = create_app(settings, addresses)
    gateway = app.state.gateway
    hub = gateway.hub = WorkerHub(line, gateway)
    await hub.start(gateway.supervisor)
    server = Server(configuration(app), gateway, settings.drain_timeout_s, hub.ready)
    stop.means(server.signalled)
    try:
        await server.serve(sockets=[sock])
    finally:
        stop.means(None)
        await gateway.close()
    return 0 if server.started and gateway.supervisor.healthy else 1
