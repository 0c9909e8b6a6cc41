"""An OTLP/HTTP collector for tests: it keeps what gateways tell it, and tells nobody."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from tests.system.processes import GatewayProcess


class TracedGateway(GatewayProcess):
    """`TracedGateway(collector.url, simulator.base_url, …)`; names in OTEL_ go over as they are."""

    def __init__(self, endpoint: str, upstream: str | None = None, **settings: Any) -> None:
        named = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": 50,  # ms; 5 s without it
            **settings,
        }
        plain = [name for name in named if name.startswith("OTEL_")]
        self._PLAIN = (*GatewayProcess._PLAIN, *plain)  # type: ignore[assignment]
        super().__init__(upstream, **named)


@dataclass
class Received:
    """One span. `links`: what each says that it links to → (trace, span)."""

    trace: str
    id: str
    parent: str
    name: str
    process: str
    failed: bool
    attributes: dict[str, Any]
    links: dict[str, tuple[str, str]]

    @property
    def own(self) -> tuple[str, str]:
        return self.trace, self.id


@dataclass
class Collector:
    """`spans` in the order of coming, `raw` as they came, `resources` by process."""

    url: str = ""
    spans: list[Received] = field(default_factory=list)
    raw: bytes = b""
    resources: dict[str, dict[str, Any]] = field(default_factory=dict)

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            about = _plain(resource.resource.attributes)
            self.resources[about["service.instance.id"]] = about
            for scope in resource.scope_spans:
                self.spans += [_span(span, about["service.instance.id"]) for span in scope.spans]
        self.raw += body

    def named(self, name: str, **attributes: Any) -> list[Received]:
        """Those of this name with these attributes, "_" for "."."""
        return [
            span
            for span in list(self.spans)
            if span.name == name
            and attributes.items()
            <= {key.replace(".", "_"): span.attributes[key] for key in span.attributes}.items()
        ]

    def one(self, name: str, **attributes: Any) -> Received:
        (span,) = self.named(name, **attributes)
        return span

    def below(self, parent: Received) -> list[str]:
        return sorted(span.name for span in self.spans if (span.trace, span.parent) == parent.own)


@contextmanager
def collector() -> Iterator[Collector]:
    """One that listens, on a port of its own."""
    kept = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert (self.path, self.headers["content-type"]) == ("/v1/traces", "application/x-protobuf")
            kept.take(body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """It would write to the test's output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    kept.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield kept
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _span(span: Any, process: str) -> Received:
    return Received(
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.name,
        process,
        span.status.code == span.status.STATUS_CODE_ERROR,
        _plain(span.attributes),
        {
            _plain(link.attributes)["refrain.link"]: (link.trace_id.hex(), link.span_id.hex())
            for link in span.links
        },
    )


def _plain(attributes: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in attributes}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return tuple(_value(one) for one in value.array_value.values)
    return getattr(value, str(kind))
