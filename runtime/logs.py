"""Structured logs: one JSON object per line on stderr, the request's id on every line of a request."""

from __future__ import annotations

import json
import logging
import sys
import time
from contextvars import ContextVar
from typing import Final

import msgspec

#: The id of the HTTP request that is being handled; "" outside of one.
request_id: Final[ContextVar[str]] = ContextVar("request_id", default="")

_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {
    "message",
    "asctime",
    "color_message",
    "taskName",
}
_ENCODER: Final = msgspec.json.Encoder(enc_hook=str)


class JsonFormatter(logging.Formatter):
    """`extra` fields become fields of the object. Never a body, a key or a header: callers pass none."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if id := request_id.get():
            line["request_id"] = id
        line.update({name: value for name, value in record.__dict__.items() if name not in _STANDARD})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        try:
            return _ENCODER.encode(line).decode()
        except UnicodeEncodeError:  # half of a surrogate pair, which ASCII escapes can carry
            return json.dumps(line, default=str)


def configure(level: int = logging.INFO) -> None:
    """Route every logger of the process, the server's own too, to stderr as JSON lines."""
    # A line has neither thread, process nor the caller's place: do not look for them (the logging
    # HOWTO's "Optimization").
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"
    # The server's own life is told by ours; its complaints are kept.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
