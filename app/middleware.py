"""The one middleware, pure ASGI: every request has an id, on its answer and on its log lines.

It is also where a failure that nobody expected becomes an answer: outside of it there is no id.
"""

from __future__ import annotations

import logging
import re
import secrets
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.exchange import Exchange
from runtime.errors import GatewayError
from runtime.logs import request_id

log = logging.getLogger("refrain.app")

_ACCEPTED: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class RequestId:
    """Takes `x-request-id` if it is well-formed, else makes one; echoes it either way."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        id = given if _ACCEPTED.fullmatch(given) else secrets.token_hex(12).encode()
        token = request_id.set(id.decode())

        started = False

        async def tagged(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", id)]
            await send(message)

        try:
            await self._app(scope, receive, tagged)
        except Exception:
            log.exception("a request failed unexpectedly")
            if started:
                raise
            await Exchange(scope, receive, tagged).fail(GatewayError())
        finally:
            request_id.reset(token)
