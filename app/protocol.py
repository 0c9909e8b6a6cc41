"""uvicorn's HTTP protocol, with what an exposed streaming server needs besides.

- A client's leaving is noticed whatever else it did on its connection: uvicorn stops reading when a
  second request is pipelined behind a running one, and tells only the latest of them of the end.
- A connection can be dropped at once, and asked what its client has not taken (`refrain.connection`):
  closing politely waits for a reader that does not read.
- Headers that do not come, or come in an ambiguous framing, end here; a refusal is never written into
  the answer to another request; a trailer is no header; an offer to upgrade is declined, not refused.

Relies on uvicorn's insides (`cycle`, `pipeline`, `flow`), so its version is pinned and
tests/integration/test_protocol.py holds it to them.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

HEADERS_TIMEOUT_S: Final = 20.0
MAX_HEADERS: Final = 100
MAX_HEADER_BYTES: Final = 65_536
#: Bytes of headers that the parser may sit on: it tells of a header only when its line is over.
MAX_UNPARSED: Final = 8 * MAX_HEADER_BYTES
MAX_PIPELINED: Final = 8
MAX_PIPELINED_BODY: Final = 65_536

_UPGRADE: Final = re.compile(rb"\r\nupgrade(?=[ \t]*:)", re.IGNORECASE)
_REFUSAL: Final = (
    b'{"error":{"message":"The HTTP request could not be accepted.","type":"invalid_request_error",'
    b'"param":null,"code":"%b"}}'
)


class GuardedProtocol(HttpToolsProtocol):
    """State: every unanswered cycle of the connection, and where in a request the parser is."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._cycles: list[RequestResponseCycle] = []
        self._between = True  # the next byte begins a request
        self._in_headers = False
        self._header_bytes = 0
        self._unparsed = 0
        self._headers_timer: asyncio.TimerHandle | None = None

    # -- the connection -----------------------------------------------------------------------
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        for cycle in self._running():
            cycle.disconnected = True
            cycle.message_event.set()
        self._cycles.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(self._without_upgrade(data) if self._between else data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refuse(400, b"malformed_request")
        if self.transport.is_closing():
            return
        if self._in_headers:
            self._unparsed += len(data)
            if self._unparsed > MAX_UNPARSED:
                self._abort()
        elif self._headers_timer is None and not self._running() and self.timeout_keep_alive_task is None:
            # A blank line, or the rest of a body that was refused unread: the keep-alive timer is off now.
            self._start_timer()

    def timeout_keep_alive_handler(self) -> None:
        # Closing politely would wait for a client that has not taken the last answer yet.
        self._abort()

    # -- the parser ---------------------------------------------------------------------------
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._between, self._in_headers = False, True
        self._header_bytes = self._unparsed = 0
        self._start_timer()
        self.scope["extensions"] = {"refrain.connection": {"abort": self._abort, "unsent": self._unsent}}

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._header_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        # Only headers: a trailer comes through the same callback, when the request is already under way.
        if self._in_headers:
            # The parser drops white space before a value, not that behind it.
            super().on_header(name, value.rstrip(b" \t"))
            self._header_bytes += len(name) + len(value)

    def on_headers_complete(self) -> None:
        self._in_headers = False
        self._stop_timer()
        if self.transport.is_closing():
            return
        if self._header_bytes > MAX_HEADER_BYTES or len(self.headers) > MAX_HEADERS:
            self._refuse(431, b"headers_too_large")
            return
        if self._ambiguous():
            self._refuse(400, b"malformed_request")
            return
        super().on_headers_complete()
        self._cycles = [*self._running(), self.cycle]
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
        self._between = True
        if not self.transport.is_closing():
            super().on_message_complete()

    # -- inside -------------------------------------------------------------------------------
    def _running(self) -> list[RequestResponseCycle]:
        return [cycle for cycle in self._cycles if not cycle.response_complete]

    def _ambiguous(self) -> bool:
        """Two readers of the same bytes could see two different requests."""
        names = [name for name, _ in self.headers]
        lengths = names.count(b"content-length")
        codings = names.count(b"transfer-encoding")
        return names.count(b"host") > 1 or lengths > 1 or codings > 1 or (lengths > 0 and codings > 0)

    @staticmethod
    def _without_upgrade(data: bytes) -> bytes:
        """Decline `Upgrade: h2c`, which some clients offer with a POST: the parser would drop its body."""
        head, end, rest = data.partition(b"\r\n\r\n")
        return _UPGRADE.sub(b"\r\nx-upgrade", head) + end + rest if end else data

    def _refuse(self, status: int, code: bytes) -> None:
        """Say so and close; but never into an answer that belongs to another request."""
        running = self._running()
        own = running == [self.cycle] and self.cycle.more_body and not self.cycle.response_started
        if running and not own:
            self._abort()
            return
        body = _REFUSAL % code
        self.transport.write(
            STATUS_LINE[status]
            + b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            + body
        )
        self.transport.close()

    def _start_timer(self) -> None:
        self._stop_timer()
        self._headers_timer = self.loop.call_later(HEADERS_TIMEOUT_S, self._abort)

    def _stop_timer(self) -> None:
        if self._headers_timer is not None:
            self._headers_timer.cancel()
            self._headers_timer = None

    def _unsent(self) -> int:
        """Bytes that the client has still to take."""
        return 0 if self.transport.is_closing() else self.transport.get_write_buffer_size()

    def _abort(self) -> None:
        self._stop_timer()
        self.transport.abort()
