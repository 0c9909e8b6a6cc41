"""The only module that imports OpenTelemetry: spans with explicit times, an export that nobody waits for."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, format_span_id, format_trace_id
from opentelemetry.trace import Span as OtelSpan
from opentelemetry.trace.propagation import get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app.telemetry.names import LINK
from app.version import VERSION

log = logging.getLogger("refrain.tracing")

Value = str | int | float | Sequence[str]
#: For what is left at the end of the process.
FLUSH_S: Final = 2.0
_KINDS: Final = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT, "internal": SpanKind.INTERNAL}
_W3C: Final = TraceContextTextMapPropagator()


class Span:
    """One span that is being made. Times are the loop's. Without `recording` all it has is its identity."""

    __slots__ = ("_ns", "_span", "recording")

    def __init__(self, span: OtelSpan, ns: Callable[[float], int]) -> None:
        self._span = span
        self._ns = ns
        self.recording = span.is_recording()

    @property
    def traceparent(self) -> str:
        """Who it is, as W3C's header writes it."""
        own = self._span.get_span_context()
        flags = int(own.trace_flags)
        return f"00-{format_trace_id(own.trace_id)}-{format_span_id(own.span_id)}-{flags:02x}"

    def within(self) -> Context:
        """For the children."""
        return set_span_in_context(self._span, Context())

    def set(self, attributes: Mapping[str, Value | None]) -> None:
        """None: unknown, and left out."""
        self._span.set_attributes({name: value for name, value in attributes.items() if value is not None})

    def event(self, name: str, at: float) -> None:
        self._span.add_event(name, timestamp=self._ns(at))

    def link(self, traceparent: str, what: str) -> None:
        for link in _links({traceparent: what}):
            self._span.add_link(link.context, link.attributes)

    def end(self, at: float, *, failed: bool = False) -> None:
        if failed:
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end(self._ns(at))


class Spans:
    """Begins spans, and sends what has ended. `wall` is for tests, whose loops have a time of their own."""

    def __init__(
        self,
        processor: SpanProcessor,
        proc: str = "",
        *,
        sampler: Sampler | None = None,
        wall: Callable[[], int] = time.time_ns,
    ) -> None:
        # Not the global provider: no library in this process is to send spans of its own.
        self._provider = TracerProvider(sampler=sampler, resource=_resource(proc), shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("refrain", VERSION)
        self._wall = wall

    def begin(
        self,
        name: str,
        at: float,
        *,
        kind: str = "internal",
        parent: Span | str | None = None,
        carrier: Mapping[str, str] | None = None,
        links: Mapping[str, str] | None = None,
        attributes: Mapping[str, Value] | None = None,
    ) -> Span:
        """`parent`: a span, or its traceparent; `carrier`: the headers of a caller that may have one."""
        if isinstance(parent, Span):
            context = parent.within()
        else:
            context = _W3C.extract(carrier or {"traceparent": parent or ""}, Context())
        span = self._tracer.start_span(
            name,
            context,
            _KINDS[kind],
            attributes,
            _links(links or {}),
            start_time=self._ns(at),
            record_exception=False,
        )
        return Span(span, self._ns)

    async def close(self) -> None:
        """Send what is left; not for long, whatever the collector does."""
        loop, flushed = asyncio.get_running_loop(), asyncio.Event()

        def flush() -> None:
            with suppress(Exception):
                self._provider.shutdown()
            with suppress(RuntimeError):  # nobody waits any more, and the loop is closed
                loop.call_soon_threadsafe(flushed.set)

        # No executor: the process would wait for its thread at the end.
        threading.Thread(target=flush, name="flush traces", daemon=True).start()
        try:
            async with asyncio.timeout(FLUSH_S):
                await flushed.wait()
        except TimeoutError:
            log.warning("the last traces could not be sent")

    def _ns(self, at: float) -> int:
        """Loop time as wall time."""
        return self._wall() + round((at - asyncio.get_running_loop().time()) * 1e9)


def exporting() -> SpanProcessor:
    """To where the environment says, by a thread with a bounded queue."""
    return BatchSpanProcessor(OTLPSpanExporter())


def _resource(proc: str) -> Resource:
    ours = Resource.create(
        {"service.name": "refrain", "service.version": VERSION, "service.instance.id": proc or "refrain"}
    )
    return ours.merge(OTELResourceDetector().detect())


def _links(of: Mapping[str, str]) -> list[Link]:
    """traceparent → what it is. What cannot be read links nowhere."""
    read = [(get_current_span(_W3C.extract({"traceparent": name}, Context())), of[name]) for name in of]
    found = [(span.get_span_context(), what) for span, what in read]
    return [Link(context, {LINK: what}) for context, what in found if context.is_valid]
