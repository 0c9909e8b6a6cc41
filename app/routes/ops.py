"""The operator's routes: health, readiness, metrics, and the pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from sse_starlette.sse import AppStatus, EventSourceResponse

from app import instance as shown
from app.gateway import Gateway

#: Seconds between two frames of `/pipeline/stream`: at most four a second.
FRAME_S: Final = 0.25
SEND_TIMEOUT_S: Final = 10.0
#: The number of a worker, from 1; one that there is not has shown nothing.
Worker = Annotated[int | None, Query(ge=1, le=1_000_000)]


def ops_router(gateway: Gateway) -> APIRouter:
    """Health is open to all; what shows the traffic needs the admin key, where one is configured."""
    # Its default ends live streams a moment after SIGTERM, while ours drain.
    AppStatus.disable_automatic_graceful_drain()  # type: ignore[no-untyped-call]

    def admin(request: Request) -> None:
        gateway.auth.require_admin(request.headers.get("authorization", ""))

    router = APIRouter()
    guarded = APIRouter(
        dependencies=[Depends(admin)], responses={401: {"description": "The admin key is required"}}
    )

    @router.head("/healthz", include_in_schema=False)
    @router.get("/healthz", tags=["operations"])
    async def healthz() -> dict[str, str]:
        """The process can serve. Full pools are not ill health."""
        return {"status": "ok"}

    @router.head("/readyz", include_in_schema=False)
    @router.get("/readyz", tags=["operations"], responses={503: {"description": "Not ready"}})
    async def readyz() -> Response:
        """503 only while starting or draining, or when a part of the process has died."""
        return await _readiness(gateway)

    @guarded.head("/metrics", include_in_schema=False)
    @guarded.get("/metrics", tags=["operations"], response_class=PlainTextResponse)
    async def metrics(worker: Worker = None) -> Response:
        """Prometheus text format, of the instance or of one of its workers."""
        instance = replace(await gateway.hub.gather(), only=worker)
        return Response(shown.metrics(instance), media_type="text/plain; version=0.0.4; charset=utf-8")

    @guarded.head("/pipeline", include_in_schema=False)
    @guarded.get("/pipeline", tags=["operations"])
    async def snapshot() -> dict[str, Any]:
        """Every stage, every broadcast, and the totals since the start."""
        return shown.pipeline(await gateway.hub.gather())

    @guarded.get("/pipeline/stream", tags=["operations"], response_class=EventSourceResponse)
    async def snapshots() -> EventSourceResponse:
        """The same as SSE, at most four times a second."""
        return EventSourceResponse(
            _frames(gateway),
            ping=10,
            send_timeout=SEND_TIMEOUT_S,
            sep="\n",
            headers={"x-accel-buffering": "no"},
        )

    @guarded.get("/pipeline/history", tags=["operations"])
    async def history(worker: Worker = None) -> dict[str, Any]:
        """The last five minutes, a row a second, of the instance or of one of its workers."""
        return await gateway.hub.history(worker)

    router.include_router(guarded)
    return router


async def _readiness(gateway: Gateway) -> Response:
    if gateway.state != "ready" or not gateway.supervisor.healthy:
        state = gateway.state if gateway.supervisor.healthy else "failed"
        return JSONResponse({"status": state}, 503, {"retry-after": "1"})
    components = {
        "redis": gateway.redis_state,
        "upstream": "ok" if await gateway.client.reachable() else "unreachable",
    }
    well = set(components.values()) == {"ok"}
    return JSONResponse({"status": "ok" if well else "degraded", "components": components})


async def _frames(gateway: Gateway) -> AsyncIterator[dict[str, str]]:
    while gateway.state == "ready":
        yield {"data": msgspec.json.encode(shown.pipeline(await gateway.hub.gather())).decode()}
        await asyncio.sleep(FRAME_S)
