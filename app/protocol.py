"""uvicorn's HTTP protocol, with what an exposed streaming server needs besides.

- A client's leaving is noticed whatever else it did on its connection: uvicorn stops reading when a
  second request is pipelined behind a running one, and tells only the latest of them of the end.
- A connection can be dropped at once (`refrain.abort`): closing politely waits for a reader that does
  not read.
- A request whose headers do not come, or come in an ambiguous framing, ends here.

Relies on uvicorn's insides (`cycle`, `pipeline`, `flow`), so its version is pinned and
tests/integration/test_protocol.py holds it to them.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

HEADERS_TIMEOUT_S: Final = 20.0
MAX_HEADERS: Final = 100
MAX_HEADER_BYTES: Final = 65_536
MAX_PIPELINED: Final = 8
MAX_PIPELINED_BODY: Final = 65_536


class GuardedProtocol(HttpToolsProtocol):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._header_bytes = 0
        self._headers_timer: asyncio.TimerHandle | None = None
        self._cycles: list[RequestResponseCycle] = []

    # -- the connection -----------------------------------------------------------------------
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._headers_timer = self.loop.call_later(HEADERS_TIMEOUT_S, self._abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        for cycle in self._cycles:
            if not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self._cycles.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)

    # -- the parser ---------------------------------------------------------------------------
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._header_bytes = 0
        if self._headers_timer is None:
            self._headers_timer = self.loop.call_later(HEADERS_TIMEOUT_S, self._abort)
        self.scope["extensions"] = {"refrain.abort": {"call": self._abort}}

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._count(len(name) + len(value))

    def on_headers_complete(self) -> None:
        self._stop_timer()
        if self.transport.is_closing():
            return
        if self._header_bytes > MAX_HEADER_BYTES or len(self.headers) > MAX_HEADERS:
            self._refuse(431, b"headers_too_large")
            return
        if self._ambiguous():
            self._refuse(400, b"malformed_request")
            return
        self._cycles = [cycle for cycle in self._cycles if not cycle.response_complete]
        super().on_headers_complete()
        self._cycles.append(self.cycle)
        if self.pipeline:
            # uvicorn stops reading now; then nobody would see the client of the running request leave.
            self.flow.resume_reading()
            if len(self.pipeline) > MAX_PIPELINED:
                self._abort()

    def on_body(self, body: bytes) -> None:
        if self.transport.is_closing():
            return
        super().on_body(body)
        if self.pipeline:
            self.flow.resume_reading()
            if len(self.cycle.body) > MAX_PIPELINED_BODY:
                self._abort()

    def on_message_complete(self) -> None:
        if self.transport.is_closing():
            return
        super().on_message_complete()

    # -- inside -------------------------------------------------------------------------------
    def _ambiguous(self) -> bool:
        """Two readers of the same bytes could see two different requests."""
        names = [name for name, _ in self.headers]
        lengths = names.count(b"content-length")
        codings = names.count(b"transfer-encoding")
        return names.count(b"host") > 1 or lengths > 1 or codings > 1 or (lengths > 0 and codings > 0)

    def _count(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > 4 * MAX_HEADER_BYTES:
            self._abort()

    def _refuse(self, status: int, code: bytes) -> None:
        body = (
            b'{"error":{"message":"The request headers were refused.","type":"invalid_request_error",'
            b'"param":null,"code":"' + code + b'"}}'
        )
        self.transport.write(
            STATUS_LINE[status]
            + b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            + body
        )
        self.transport.close()

    def _stop_timer(self) -> None:
        if self._headers_timer is not None:
            self._headers_timer.cancel()
            self._headers_timer = None

    def _abort(self) -> None:
        self._headers_timer = None
        if self.transport is not None:
            self.transport.abort()
