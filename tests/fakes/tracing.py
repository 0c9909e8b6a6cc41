"""The front of `tests.fakes.front` with traces: what it has told a collector is in memory.

async with traced_front() as (gate, traces):
    await gate.post("/chat", {"message": "a question"})
    assert traces.one("POST /chat")
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import format_span_id, format_trace_id
from starlette.routing import Router

from app.gateway import Addresses, Gateway
from app.routes.chat import ChatRoutes
from app.routes.openai import OpenAIRoutes
from app.telemetry.otel import Spans
from app.telemetry.tracing import Tracing
from app.telemetry.watched import TracedBroadcasts
from tests.fakes.front import Front, front
from tests.fakes.running_app import NO_REDIS

UPSTREAM = "https://model.example:8443/v1"
CHAT = "chat played-model"


class Traces:
    """The spans that have ended."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self._exporter = InMemorySpanExporter()
        processor = SimpleSpanProcessor(self._exporter)
        self.spans = Spans(processor, "test", sampler=sampler, wall=_loop_ns)
        self.tracing: Tracing

    @property
    def ended(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.ended if span.name == name]

    def one(self, name: str, **attributes: Any) -> ReadableSpan:
        """The only one of this name with these attributes, "_" for "."."""
        found = [span for span in self.named(name) if attributes.items() <= _underscored(span).items()]
        assert len(found) == 1, f"{len(found)} of {name} {attributes} in {[span.name for span in self.ended]}"
        return found[0]

    def below(self, parent: ReadableSpan) -> list[str]:
        """The names of its children, in the order of their beginnings."""
        assert parent.context is not None
        own = parent.context.span_id
        children = [span for span in self.ended if span.parent is not None and span.parent.span_id == own]
        return [span.name for span in sorted(children, key=lambda span: span.start_time or 0)]

    def everything(self) -> str:
        """Whatever leaves the process, as one text."""
        return "\n".join(span.to_json() for span in self.ended)


def identity(span: ReadableSpan) -> tuple[str, str]:
    """Its trace and its own id, in hexadecimal."""
    assert span.context is not None
    return format_trace_id(span.context.trace_id), format_span_id(span.context.span_id)


def links(span: ReadableSpan) -> dict[object, tuple[str, str]]:
    """What it links to, by what the link says that is."""
    return {
        (link.attributes or {})["refrain.link"]: (
            format_trace_id(link.context.trace_id),
            format_span_id(link.context.span_id),
        )
        for link in span.links
    }


def seconds(span: ReadableSpan) -> float:
    assert span.end_time is not None
    assert span.start_time is not None
    return round((span.end_time - span.start_time) / 1e9, 3)


@asynccontextmanager
async def traced_front(sampler: Sampler | None = None, **options: Any) -> AsyncIterator[tuple[Front, Traces]]:
    """A front whose routes and broadcasts are traced; at the end no flight may be left open."""
    async with front(**options) as gate:
        traces = Traces(sampler)
        # The same object, as the class that a gateway with traces builds: the fake builds the plain one.
        gate.pipe.broadcasts.__class__ = TracedBroadcasts
        traces.tracing = Tracing(traces.spans, Addresses(UPSTREAM, NO_REDIS), gate.pipe.broadcasts)
        gate.traced = traces.tracing.route  # type: ignore[method-assign]
        gateway = cast(Gateway, gate)
        gate.app = Router([*OpenAIRoutes(gateway).routes(), *ChatRoutes(gateway).routes()])
        yield gate, traces
        await gate.pipe.rest()
        assert len(traces.tracing.flights) == 0, "flights are still traced that have ended"


def _loop_ns() -> int:
    return round(asyncio.get_running_loop().time() * 1e9)


def _underscored(span: ReadableSpan) -> Mapping[str, Any]:
    return {name.replace(".", "_"): value for name, value in (span.attributes or {}).items()}
