"""Logs: one JSON object per line, whatever is logged, with the request's id on it."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from runtime.logs import JsonFormatter, configure, request_id


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What the configured process writes to stderr; the loggers are as they were afterwards."""
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    names = ("", "uvicorn", "uvicorn.error", "uvicorn.access", "asyncio")
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    configure()
    yield stderr
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


def only_line(written: io.StringIO) -> dict[str, Any]:
    (line,) = written.getvalue().removesuffix("\n").split("\n")
    fields: dict[str, Any] = json.loads(line)
    return fields


def test_a_line_is_one_json_object(lines: io.StringIO) -> None:
    """Time in UTC, level, logger, message, and the extra fields beside them."""
    logging.getLogger("refrain.request").info("request %s", "ended", extra={"outcome": "completed", "n": 3})
    line = only_line(lines)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "refrain.request",
        "message": "request ended",
        "outcome": "completed",
        "n": 3,
    }


def test_the_request_being_handled_is_named(lines: io.StringIO) -> None:
    """Row 81: every line of a request carries its id, and only its own; a line may name another."""
    token = request_id.set("abc")
    logging.getLogger("refrain").info("in it")
    logging.getLogger("refrain").info("of another", extra={"request_id": "def"})
    request_id.reset(token)
    logging.getLogger("refrain").info("outside")
    assert [json.loads(line).get("request_id") for line in lines.getvalue().splitlines()] == [
        "abc",
        "def",
        None,
    ]


def test_an_exception_is_part_of_its_line(lines: io.StringIO) -> None:
    """A traceback over many lines would be many records to whoever collects them."""
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        logging.getLogger("refrain").exception("it failed")
    assert "first\nsecond" in only_line(lines)["exception"]


@pytest.mark.parametrize(
    "value", ["two\nlines", '"quoted"', "\u2028", "\ud800", float("nan"), object(), {"a": {1, 2}}, b"bytes"]
)
def test_nothing_that_is_logged_breaks_the_line(lines: io.StringIO, value: object) -> None:
    """A value from outside can be anything: the line stays one line of JSON, and is not lost."""
    logging.getLogger("refrain").info("seen", extra={"value": value})
    assert only_line(lines)["message"] == "seen"


def test_a_message_from_outside_cannot_break_the_line_either(lines: io.StringIO) -> None:
    """Half a surrogate pair is a valid JSON string to Python, and no text to anybody else."""
    logging.getLogger("refrain").info("text %s", "\ud800\n")
    assert only_line(lines)["message"].startswith("text ")


def test_the_servers_own_lines_are_json_too(lines: io.StringIO) -> None:
    """Its complaints are kept, its access log is not: each request has our closing line."""
    logging.getLogger("uvicorn.access").info("GET /")
    logging.getLogger("uvicorn.error").info("Started server process")
    logging.getLogger("uvicorn.error").error("bad request")
    assert only_line(lines)["message"] == "bad request"


def test_names_of_the_logging_module_stay_out() -> None:
    """Only what the caller said: no path of a source file, no process id."""
    record = logging.LogRecord("refrain", logging.INFO, "/secret/path.py", 1, "hi", None, None)
    assert set(json.loads(JsonFormatter().format(record))) == {"time", "level", "logger", "message"}
