"""The one table from codes to HTTP: every code, every header, every shape."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import STATUS, Cancelled, body_of, headers_of, status_of
from runtime import errors
from runtime.errors import GatewayError, UpstreamRejected


def classes(root: type[GatewayError] = GatewayError) -> Iterator[type[GatewayError]]:
    yield root
    for kind in root.__subclasses__():
        yield from classes(kind)


ALL = sorted(
    {kind for kind in classes() if kind.__module__ in (errors.__name__, Cancelled.__module__)}, key=str
)
BY_CODE = {kind.code: kind() for kind in ALL}
TYPES = {401: "authentication_error", 429: "rate_limit_error"}


def headers(error: GatewayError) -> dict[str, str]:
    lines = headers_of(error)
    assert len({name for name, _ in lines}) == len(lines)
    return {name.decode(): value.decode() for name, value in lines}


def test_every_error_has_its_row() -> None:
    """A code without a status would be a 502 by accident."""
    assert set(BY_CODE) <= set(STATUS)


@pytest.mark.parametrize("code", STATUS)
def test_every_code_has_the_openai_shape(code: str) -> None:
    """SDKs read exactly these four fields."""
    error = GatewayError("what is wrong", code=code, param="messages[0]")
    body = json.loads(body_of(error))
    status = STATUS[code]
    assert list(body) == ["error"]
    assert body["error"] == {
        "message": "what is wrong",
        "type": TYPES.get(status, "invalid_request_error" if status < 500 else "server_error"),
        "param": "messages[0]",
        "code": code,
    }
    assert status_of(error) == status


@pytest.mark.parametrize("code", STATUS)
def test_every_429_and_503_says_when_to_come_back_and_why(code: str) -> None:
    """Both headers on those, and on no other, but that a busy conversation has its reason too."""
    error = BY_CODE.get(code) or GatewayError(code=code)
    found = headers(error)
    asks_back = STATUS[code] in (429, 503)
    assert ("retry-after" in found) == asks_back
    named = asks_back or code == "conversation_busy"
    assert found.get("x-refrain-reason") == (code if named else None)
    assert found.get("www-authenticate") == ("Bearer" if STATUS[code] == 401 else None)


@pytest.mark.parametrize("kind", ALL)
def test_whoever_cannot_be_helped_by_a_retry_is_told(kind: type[GatewayError]) -> None:
    """The SDKs retry 408, 409, 429 and 5xx by themselves, unless this header stops them."""
    assert headers(kind()).get("x-should-retry") == (None if kind.retryable else "false")
    assert headers(kind(retryable=not kind.retryable)).get("x-should-retry") == (
        "false" if kind.retryable else None
    )


@given(st.floats(min_value=0, max_value=10_000), st.sampled_from(["queue_full", "draining"]))
def test_retry_after_is_whole_seconds_never_early_and_a_quarter_late_at_most(
    seconds: float, code: str
) -> None:
    """Coming back earlier is refused again; all at the same second is a herd."""
    value = headers(GatewayError(code=code, retry_after=seconds, retryable=True))["retry-after"]
    assert value.isdigit()
    assert max(1, seconds) <= int(value) <= max(1, seconds) * 1.25 + 1


def test_retry_after_is_spread() -> None:
    """The refused of one moment do not come back together."""
    error = GatewayError(code="queue_full", retry_after=100.0)
    values = {int(headers(error)["retry-after"]) for _ in range(200)}
    assert len(values) > 10
    assert all(100 <= value <= 126 for value in values)


@pytest.mark.parametrize("status", [400, 404, 422])
def test_the_models_own_refusal_keeps_its_status(status: int) -> None:
    """With an allow-listed code and our own words."""
    error = UpstreamRejected(code="context_length_exceeded", status=status)
    assert status_of(error) == status
    assert json.loads(body_of(error))["error"]["type"] == "invalid_request_error"
    assert headers(error)["x-should-retry"] == "false"


@pytest.mark.parametrize("kind", ALL)
def test_no_message_of_ours_is_empty_or_shows_an_inside(kind: type[GatewayError]) -> None:
    """A sentence for a person: no path, no class, no placeholder."""
    message = kind().message
    assert message.endswith(".")
    assert not set(message) & set("\\{}<>_")
    assert " /" not in message
