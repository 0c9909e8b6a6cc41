"""The way past the framework: the same answers as through it, for full matches and for nothing else."""

from __future__ import annotations

import pytest
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from app.bypass import Bypass
from app.exchange import Endpoint, Exchange
from runtime.logs import request_id
from tests.fakes.asgi import Peer
from tests.virtual_time import virtual


class Layer:
    """What the framework puts around its apps: it notes what passes through."""

    def __init__(self, app: Bypass) -> None:
        self.passed: list[str] = []
        self._inner = app.router.middleware_stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.passed.append(scope["path"])
        await self._inner(scope, receive, send)


def application() -> tuple[Bypass, Layer]:
    async def show(exchange: Exchange) -> None:
        await exchange.json(200, {"id": exchange.id, "request": request_id.get()})

    async def fail(exchange: Exchange) -> None:
        raise KeyError

    app = Bypass()
    app.pass_by(
        [
            Route("/hot/{id}", Endpoint(show), methods=["GET"]),
            Route("/fails/{id}", Endpoint(fail), methods=["GET"]),
        ]
    )
    layer = Layer(app)
    app.router.middleware_stack = layer
    return app, layer


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@virtual
async def test_a_full_match_meets_no_layer_and_is_a_request_like_any_other(method: str) -> None:
    """Its path parameters and its id are there; each piece of its answer goes straight out."""
    app, layer = application()
    peer = await Peer(method, "/hot/seven", headers={"x-request-id": "mine"}).call(app)
    assert (peer.status, peer.headers["x-request-id"]) == (200, "mine")
    if method == "GET":
        assert peer.json == {"id": "seven", "request": "mine"}
    assert layer.passed == []
    assert request_id.get() == ""


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/hot/seven", 405), ("GET", "/hot", 404), ("GET", "/hot/a/b", 404)],
)
@virtual
async def test_anything_else_is_the_routers(method: str, path: str, status: int) -> None:
    """Another method, another path: its refusals are made in one place."""
    app, layer = application()
    peer = await Peer(method, path).call(app)
    assert peer.status == status
    assert layer.passed == [path]


@virtual
async def test_a_failure_past_the_framework_is_an_answer_as_well() -> None:
    """No layer is left that could make one of it."""
    app, _ = application()
    peer = await Peer("GET", "/fails/x", headers={"x-request-id": "mine"}).call(app)
    assert (peer.status, peer.error["code"]) == (500, "internal_error")
    assert peer.headers["x-request-id"] == "mine"


def test_the_routes_are_still_listed() -> None:
    """The document, and whoever looks for them, finds them in the router."""
    app, _ = application()
    assert [route.path for route in app.routes[:2] if isinstance(route, Route)] == [
        "/hot/{id}",
        "/fails/{id}",
    ]
