"""The traces of one process: built with its other parts where they are asked for, closed last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.types import ASGIApp

from app.telemetry.calls import Called
from app.telemetry.flights import FlightSpans
from app.telemetry.requests import Traced
from app.telemetry.watched import TracedBroadcasts
from broadcast.manager import BroadcastManager

if TYPE_CHECKING:
    from app.gateway import Addresses
    from app.telemetry.otel import Spans


class Tracing:
    """Spans of the requests to one process and of the flights it makes."""

    def __init__(self, spans: Spans, addresses: Addresses, broadcasts: BroadcastManager) -> None:
        self._spans = spans
        called = Called(addresses.upstream_url, simulated=addresses.simulated)
        self.flights = FlightSpans(spans, called)
        if isinstance(broadcasts, TracedBroadcasts):
            broadcasts.meet(self.flights)

    @classmethod
    def exporting(cls, addresses: Addresses, broadcasts: BroadcastManager) -> Tracing:
        """To where the OTEL_ variables say. OpenTelemetry is loaded here, and nowhere else."""
        from app.telemetry.otel import Spans, exporting

        return cls(Spans(exporting(), addresses.proc), addresses, broadcasts)

    def route(self, route: str, app: ASGIApp) -> ASGIApp:
        return Traced(app, route, self._spans)

    async def close(self) -> None:
        await self._spans.close()
