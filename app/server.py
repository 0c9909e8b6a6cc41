"""One gateway process under uvicorn: its configuration, its signals, its drain."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import uvicorn

from app.gateway import Gateway
from app.listening import BACKLOG
from app.protocol import GuardedProtocol
from runtime.errors import Draining

log = logging.getLogger("refrain.server")

KEEP_ALIVE_S: Final = 75
#: After the drain: how long the last bytes may take to leave.
FLUSH_S: Final = 2.0
#: Until it is known how the requests of other processes have ended that drain at the same time.
HEAR_S: Final = 1.0


def configuration(app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=GuardedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=round(FLUSH_S),
        backlog=BACKLOG,
    )


class Server(uvicorn.Server):
    """uvicorn's server, whose end is decided here: it stops only when the drain is over."""

    def __init__(
        self,
        config: uvicorn.Config,
        gateway: Gateway,
        drain_timeout_s: float,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._gateway = gateway
        self._drain_timeout_s = drain_timeout_s
        self._interrupted = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What the start has made lives as long as the process: no collection need look at it again.
        gc.collect()
        gc.freeze()
        if self.started:
            self._on_ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The signals are not the server's: see `app/stopping.py`."""
        yield

    def signalled(self, number: int) -> None:
        """SIGTERM and the first Ctrl-C drain; more SIGTERMs change nothing, a second Ctrl-C ends at once."""
        if number == signal.SIGINT:
            self._interrupt()
        else:
            self.begin_drain()

    def begin_drain(self) -> None:
        gateway = self._gateway
        if not gateway.supervisor.healthy:
            # A part of it is dead: nothing that runs can be trusted to finish.
            gateway.begin_drain()
            gateway.broadcasts.end_all(Draining())
            self.should_exit = True
        elif not gateway.manager.draining:
            gateway.begin_drain()
            gateway.supervisor.spawn("drain", self._drain())

    def _interrupt(self) -> None:
        if self._interrupted:
            self.should_exit = self.force_exit = True
            for task in list(self.server_state.tasks):
                task.cancel()
        self._interrupted = True
        self.begin_drain()

    async def _end_all(self) -> None:
        """Where all processes end at once, the readers of their requests that are here are told so."""
        gateway = self._gateway
        gateway.broadcasts.end_all(Draining(), led=True)
        if gateway.sharing is not None:
            gateway.sharing.last_words()
        with suppress(TimeoutError):
            async with asyncio.timeout(HEAR_S):
                await gateway.connections.quiet()
        gateway.broadcasts.end_all(Draining())

    async def _drain(self) -> None:
        """The socket stays open: new work is refused by name, streams of running requests are served."""
        gateway = self._gateway
        log.info("draining", extra={"running": len(gateway.broadcasts.running)})
        try:
            async with asyncio.timeout(self._drain_timeout_s):
                await gateway.broadcasts.rest.come(gateway.settings.abandon_grace_s)
                gateway.broadcasts.end_all(Draining())
                await gateway.connections.quiet()
        except TimeoutError:
            log.warning("drain timed out", extra={"running": len(gateway.broadcasts.running)})
            await self._end_all()
        try:
            async with asyncio.timeout(FLUSH_S):
                await gateway.connections.quiet()
        except TimeoutError:
            log.warning("readers left behind", extra={"connections": len(gateway.connections)})
        self.should_exit = True
