"""The real application with its lifespan, on the test's own loop: no server, no socket of its own.

    async with running_app(upstream.base_url) as app:
        peer = await Peer("GET", "/healthz").call(app)

Redis is where nothing listens, unless another address is given.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from app.gateway import Addresses
from app.main import create_app
from cache.targets import RedisTarget
from config.settings import Settings

#: A port that nothing listens on: refused at once.
NOWHERE = "http://127.0.0.1:9/v1"
NO_REDIS = RedisTarget("unix:///nonexistent/refrain-test.sock")


def application(upstream: str = NOWHERE, **settings: Any) -> FastAPI:
    """Built, not started: for a TestClient, which runs the lifespan itself."""
    return create_app(Settings(**settings), Addresses(upstream, NO_REDIS))


@asynccontextmanager
async def running_app(upstream: str = NOWHERE, **settings: Any) -> AsyncIterator[FastAPI]:
    """Started, and stopped at the end."""
    app = application(upstream, **settings)
    async with app.router.lifespan_context(app):
        yield app
