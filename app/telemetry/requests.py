"""The span of a request: from its first byte to the end of its answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import status_of
from app.exchange import SPAN
from app.telemetry import names
from app.telemetry.harmless import harmless
from chatbot.record import Record, Role
from runtime.errors import GatewayError
from runtime.logs import request_id

if TYPE_CHECKING:
    from app.telemetry.otel import Span, Spans


class RequestSpan:
    """What becomes known of a request on its way; described at its end."""

    def __init__(self, span: Span, spans: Spans) -> None:
        self.traceparent = span.traceparent
        self.status: int | None = None
        self._span = span
        self._spans = spans
        self._record: Record | None = None
        self._reading = False
        self._error: GatewayError | None = None

    def admitted(self, record: Record) -> None:
        """It has a record, made by it or by an earlier submit of the same request_id."""
        self._record = record

    def reads(self, record: Record) -> None:
        """It reads what another request has asked for."""
        self._record, self._reading = record, True

    def failed(self, error: GatewayError) -> None:
        self._error = error

    def end(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._span.recording:
            with harmless():
                self._describe()
        self._span.end(now, failed=self._is_bad)

    def _describe(self) -> None:
        error = self._failure
        self._span.set(
            {
                names.STATUS: self.status,
                names.ERROR: None if error is None else error.code,
                names.REQUEST_ID: request_id.get() or None,
            }
        )
        if self._record is not None:
            self._describe_record(self._record)

    def _describe_record(self, record: Record) -> None:
        ended = record.claim.ended
        self._span.set(
            {
                names.CHAT_ID: record.ticket.id,
                names.ROLE: record.role.value,
                names.CACHE: record.cache.value,
                names.OUTCOME: None if ended is None else ended.outcome.value,
                names.TTFT_MS: record.timings()["ttft_ms"],
            }
        )
        flight, asked_by = record.broadcast.traceparent, record.ticket.traceparent
        if self._reading and asked_by:
            self._span.link(asked_by, names.LINK_REQUEST)
        if flight and not self._is_parent_of(flight, record):
            self._span.link(flight, names.LINK_FLIGHT)
        if record.lookup_ms is not None and not self._reading and asked_by == self.traceparent:
            found_at = record.claim.joined_at
            lookup = self._spans.begin(
                names.CACHE_LOOKUP, found_at - record.lookup_ms / 1000, parent=self._span
            )
            lookup.set({names.CACHE: record.cache.value})
            lookup.end(found_at)

    def _is_parent_of(self, flight: str, record: Record) -> bool:
        same_trace = flight.split("-")[1] == self.traceparent.split("-")[1]
        return record.role is Role.LEADER and not self._reading and same_trace

    @property
    def _failure(self) -> GatewayError | None:
        """Its own, or, where the status had been sent by then, that of its record."""
        if self._error is not None or self._record is None or self._record.claim.ended is None:
            return self._error
        return self._record.claim.ended.error

    @property
    def _is_bad(self) -> bool:
        """Ours or the model's fault; what the caller did wrong is no error of this span."""
        error = self._failure
        return error is not None and status_of(error) >= 500


class Traced:
    """A hot route whose requests have spans."""

    def __init__(self, app: ASGIApp, route: str, spans: Spans) -> None:
        self._app = app
        self._route = route
        self._spans = spans

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        span = self._begin(scope)

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                span.status = message["status"]
            await send(message)

        scope[SPAN] = span
        try:
            await self._app(scope, receive, watched)
        except Exception:
            span.failed(GatewayError())
            raise
        finally:
            span.end()

    def _begin(self, scope: Scope) -> RequestSpan:
        method = scope["method"]
        span = self._spans.begin(
            names.REQUEST.format(method=method, route=self._route),
            asyncio.get_running_loop().time(),
            kind="server",
            carrier=_trace_headers(scope),
            attributes={
                names.METHOD: method,
                names.ROUTE: self._route,
                names.SCHEME: scope.get("scheme", "http"),
                names.PATH: scope["path"],  # and never the query: it has the stream's ticket
            },
        )
        return RequestSpan(span, self._spans)


def _trace_headers(scope: Scope) -> dict[str, str]:
    """A caller's own trace. Of a header that comes twice the first counts."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        if name in (b"traceparent", b"tracestate"):
            found.setdefault(name.decode(), value.decode("latin-1"))
    return found
