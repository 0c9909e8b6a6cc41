"""The simulated model as an ASGI application, without a framework: it has to be cheap."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from upstream.simulator.answers import MODEL
from upstream.simulator.behaviour import Behaviour
from upstream.simulator.chat import ChatHandler
from upstream.simulator.control import Control
from upstream.simulator.exchange import ClientLeft, Exchange, Message, Receive, Send
from upstream.simulator.prepare import PrepareHandler
from upstream.simulator.refusal import Refusal
from upstream.simulator.state import State
from upstream.simulator.stats import Stats

Handler = Callable[[Exchange], Awaitable[None]]


def create_simulator(behaviour: Behaviour | None = None) -> Simulator:
    """A simulated model of its own: one process serves one, since its counts live in memory."""
    return Simulator(State(behaviour or Behaviour()))


class Simulator:
    """The ASGI application. docs/simulator.md describes its routes."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._created = int(time.time())
        control = Control(state)
        self._routes: dict[str, dict[str, Handler]] = {
            "/v1/chat/completions": {"POST": ChatHandler(state)},
            "/v1/models": {"GET": self._models},
            "/prepare": {"POST": PrepareHandler(state)},
            "/config": {"GET": control.config, "POST": control.config},
            "/stats": {"GET": control.stats},
            "/reset": {"POST": control.reset},
            "/release": {"POST": control.release},
            "/healthz": {"GET": control.healthz},
        }

    @property
    def stats(self) -> Stats:
        """What `/stats` tells."""
        return self._state.stats

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            await self._serve(Exchange(scope, receive, send))
        else:
            await send({"type": "websocket.close"})

    async def _serve(self, exchange: Exchange) -> None:
        if exchange.path.startswith("/v1/"):
            self._state.stats.connected(exchange.client)
        try:
            await self._handler(exchange)(exchange)
        except Refusal as refusal:
            await exchange.refuse(refusal)
        except ClientLeft:
            return

    def _handler(self, exchange: Exchange) -> Handler:
        methods = self._routes.get(exchange.path)
        if methods is None:
            raise Refusal(404, "The simulated model has no such path.", code="unknown_url")
        if exchange.method not in methods:
            raise Refusal(405, "This path does not take that method.", code="method_not_allowed")
        return methods[exchange.method]

    async def _models(self, exchange: Exchange) -> None:
        model = {"id": MODEL, "object": "model", "created": self._created, "owned_by": "refrain"}
        await exchange.reply({"object": "list", "data": [model]})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        phase = (await receive())["type"]
        await send({"type": f"{phase}.complete"})
        if phase == "lifespan.shutdown":
            return
