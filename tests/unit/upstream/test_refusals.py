"""What an upstream's refusal becomes, and what of it is passed on."""

from __future__ import annotations

import json

import pytest

from runtime.errors import UpstreamAuth, UpstreamError, UpstreamRateLimited, UpstreamRejected
from upstream.errors import UpstreamUnavailable
from upstream.refusals import from_status, parse_retry_after
from upstream.retry import is_transient

NOON = 1_767_268_800.0  # Thu, 01 Jan 2026 12:00:00 GMT


def body(**error: object) -> bytes:
    return json.dumps({"error": {"message": "the upstream's own words", **error}}).encode()


@pytest.mark.parametrize(
    ("status", "kind", "transient", "retryable"),
    [
        (400, UpstreamRejected, False, False),
        (404, UpstreamRejected, False, False),
        (422, UpstreamRejected, False, False),
        (401, UpstreamAuth, False, False),
        (403, UpstreamAuth, False, False),
        (429, UpstreamRateLimited, True, True),
        (500, UpstreamError, False, True),
        (502, UpstreamUnavailable, True, True),
        (503, UpstreamUnavailable, True, True),
        (504, UpstreamUnavailable, True, True),
        (529, UpstreamError, False, True),
        (413, UpstreamError, False, False),
        (302, UpstreamError, False, False),
        (204, UpstreamError, False, False),
    ],
)
def test_each_status_has_its_error(
    status: int, kind: type[UpstreamError], transient: bool, retryable: bool
) -> None:
    """The table of statuses."""
    error = from_status(status, None, b"")
    assert type(error) is kind
    assert is_transient(error) is transient
    assert error.retryable is retryable


@pytest.mark.parametrize("status", [400, 404, 422])
def test_a_rejection_keeps_its_status(status: int) -> None:
    """The client made the mistake and is told so in the upstream's terms."""
    assert from_status(status, None, b"").status == status


def test_a_known_code_is_kept_with_our_own_words() -> None:
    """Clients act on the code; the upstream's message may hold anything."""
    error = from_status(400, None, body(code="context_length_exceeded", param="messages[3].content"))
    assert (error.code, error.param) == ("context_length_exceeded", "messages[3].content")
    assert "own words" not in error.message


@pytest.mark.parametrize("code", ["sk-secret", "", None, 7, ["x"], {"a": 1}, "x" * 5000])
def test_an_unknown_code_is_replaced(code: object) -> None:
    """What is not on the list might be anything."""
    assert from_status(400, None, body(code=code)).code == "upstream_rejected"


@pytest.mark.parametrize("param", ["a b", "../etc", "x" * 65, "", 3, None, "a\nb", "messages\n"])
def test_a_param_that_is_no_identifier_is_dropped(param: object) -> None:
    """It goes back to the client, so it must look like a field's name."""
    assert from_status(400, None, body(code="invalid_value", param=param)).param is None


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'"x"', b'{"error":"x"}', b"\xff", b"[" * 100_000])
def test_any_body_is_survived(raw: bytes) -> None:
    """A refusal is a refusal whatever comes with it."""
    assert from_status(400, None, raw).code == "upstream_rejected"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 1.5 ", 1.5),
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", None),
        ("Thu, 01 Jan 2099 11:00:00 GMT", 86400.0),
        ("-1", None),
        ("86401", 86400.0),
        ("9" * 400, None),
        ("1e3", None),
        ("inf", None),
        ("nan", None),
        ("٣", None),
        ("soon", None),
        ("", None),
        ("Thu, 99 Jan 2026 12:00:30 GMT", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_else_nothing(value: str | None, seconds: float | None) -> None:
    """Garbage and the past do not steer our retries; a far future is longer than anybody waits."""
    assert parse_retry_after(value, now=NOON) == seconds


def test_retry_after_travels_with_the_error() -> None:
    """On a 429 and on a 503."""
    assert from_status(429, "3", b"").retry_after == 3.0
    assert from_status(503, "3", b"").retry_after == 3.0
