"""create_app: the composition root. Settings and addresses in, an ASGI app out."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from app.bypass import Bypass
from app.errors import body_of, headers_of, status_of
from app.gateway import Addresses, Gateway
from app.middleware import RequestId
from app.openapi import describe
from app.routes.chat import ChatRoutes
from app.routes.conversations import ConversationRoutes
from app.routes.openai import OpenAIRoutes
from app.routes.ops import ops_router
from app.routes.page import PageParts, page_router
from app.version import VERSION
from config.settings import Settings
from runtime.errors import GatewayError, InvalidRequest, MethodNotAllowed, NotFound


def create_app(settings: Settings, addresses: Addresses) -> FastAPI:
    """One process of the gateway. `app.state.gateway` is everything in it."""
    gateway = Gateway(settings, addresses, on_crash=lambda name: signal.raise_signal(signal.SIGTERM))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await gateway.start()
        try:
            yield
        finally:
            await gateway.close()

    app = Bypass(
        title="Refrain",
        version=VERSION,
        lifespan=lifespan,
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        # Its spans would carry the query string, and with it the streams' tickets.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.gateway = gateway
    app.add_middleware(RequestId)
    app.add_exception_handler(GatewayError, _answer)
    app.add_exception_handler(HTTPException, _answer)
    app.add_exception_handler(RequestValidationError, _answer)
    app.pass_by(
        [
            *OpenAIRoutes(gateway).routes(),
            *ChatRoutes(gateway).routes(),
            *ConversationRoutes(gateway).routes(),
        ]
    )
    app.include_router(ops_router(gateway))
    app.include_router(page_router(gateway))
    app.mount("/page", PageParts())
    describe(app)
    return app


async def _answer(request: Request, error: Exception) -> Response:
    """The OpenAI error shape for everything, the framework's own refusals too."""
    allow: dict[str, str] = {}
    if isinstance(error, HTTPException):
        allow = dict(error.headers or {})
        known = {404: NotFound, 405: MethodNotAllowed}.get(error.status_code)
        error = known() if known else GatewayError(status=error.status_code)
    elif isinstance(error, RequestValidationError):
        error = InvalidRequest()
    assert isinstance(error, GatewayError)
    headers = allow | {name.decode(): value.decode() for name, value in headers_of(error)}
    return Response(body_of(error), status_of(error), headers, "application/json")
