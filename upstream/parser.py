"""Server-sent events without I/O: bytes in, the `data` payload of each event out.

The grammar is that of the HTML standard, section 9.2.6: a line ends at LF, CR or CRLF and at nothing
else, an empty line ends an event, an event that the end of the stream cuts off is discarded. Only
`data` matters here; `event`, `id`, `retry` and comments are ignored.
"""

from __future__ import annotations

from typing import Final

from runtime.errors import UpstreamBadResponse

MAX_EVENT_BYTES: Final = 4 * 1024 * 1024
_BOM: Final = b"\xef\xbb\xbf"


class SSEParser:
    """Feed it what the socket gave, in pieces of any size; the same events come out.

    Memory is bounded by `MAX_EVENT_BYTES`, for one line and for the data of one event, and time is
    linear in what is fed: a long line is kept as the list of its pieces until its end is there.
    """

    __slots__ = ("_after_cr", "_data", "_data_size", "_first_line", "_line", "_line_size")

    def __init__(self) -> None:
        self._line: list[bytes] = []  # pieces of a line whose end has not arrived
        self._line_size = 0
        self._data: list[bytes] = []  # data lines of an event whose end has not arrived
        self._data_size = 0
        self._after_cr = False
        self._first_line = True

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads of the events that `data` completes. Raises `UpstreamBadResponse` on one too long."""
        if self._line or self._data or self._after_cr or not data.endswith(b"\n\n") or b"\r" in data:
            return self._feed_lines(data)
        if data.find(b"\n") == len(data) - 2 <= MAX_EVENT_BYTES and data.startswith(b"data: "):
            # One event of one line per read: what a model that is being waited for sends.
            self._first_line = False
            return [data[6:-2]]
        return self._feed_whole_events(data)

    def finish(self) -> bytes | None:
        """The payload of an event that the end of the stream cut off, None if there is none.

        Such an event never happened, says the standard; the caller may only conclude from it.
        """
        if self._line:
            self._end_line(b"")
        return b"\n".join(self._data) if self._data else None

    def _feed_whole_events(self, data: bytes) -> list[bytes]:
        payloads: list[bytes] = []
        for event in data[:-2].split(b"\n\n"):
            if event.startswith(b"data: ") and b"\n" not in event and len(event) <= MAX_EVENT_BYTES:
                self._first_line = False
                payloads.append(event[6:])
            else:
                # Back to lines: comments, several fields, no space after the colon, extra blank lines.
                payloads += self._feed_lines(event + b"\n\n")
        return payloads

    def _feed_lines(self, data: bytes) -> list[bytes]:
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")
        if b"\r" in data:
            # A CR ends its line at once; an LF that comes with the next piece is the rest of that end.
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        payloads: list[bytes] = []
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._end_line(line, payloads)
        self._keep(rest)
        return payloads

    def _keep(self, piece: bytes) -> None:
        self._line_size += len(piece)
        if self._line_size > MAX_EVENT_BYTES:
            raise UpstreamBadResponse("The model sent an oversized line.")
        if piece:
            self._line.append(piece)

    def _end_line(self, piece: bytes, payloads: list[bytes] | None = None) -> None:
        self._keep(piece)
        line = b"".join(self._line)
        self._line.clear()
        self._line_size = 0
        if self._first_line:
            self._first_line = False
            line = line.removeprefix(_BOM)
        if line:
            self._field(line)
        elif payloads is not None:
            self._end_event(payloads)

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name != b"data":
            return
        value = value.removeprefix(b" ")
        # The whole line counts, so that a flood of empty data lines is bounded as well.
        self._data_size += len(line)
        if self._data_size > MAX_EVENT_BYTES:
            raise UpstreamBadResponse("The model sent an oversized event.")
        self._data.append(value)

    def _end_event(self, payloads: list[bytes]) -> None:
        if self._data:
            payloads.append(b"\n".join(self._data))
            self._data.clear()
            self._data_size = 0
