"""A way past the framework for the routes that are raw ASGI anyway.

FastAPI and Starlette put nine layers around every app, and each piece of a stream passes through all of
them again: a quarter of the cost of a token that is delivered (bench/RESULTS.md).
"""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from app.middleware import RequestId


class Bypass(FastAPI):
    """FastAPI, but for a full match of one of the routes given to `pass_by`: method and path."""

    def pass_by(self, routes: Sequence[Route]) -> None:
        """They are the router's too, which answers 405 for them, and lists them."""
        self.router.routes[:0] = routes
        self._raw = [(route, RequestId(route.app)) for route in routes]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for route, app in self._raw:
                match, found = route.matches(scope)
                if match is Match.FULL:
                    scope.update(found)
                    await app(scope, receive, send)
                    return
        await super().__call__(scope, receive, send)
