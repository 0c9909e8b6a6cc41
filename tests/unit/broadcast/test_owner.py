"""How an end is told from one process to another."""

from __future__ import annotations

from broadcast.outcome import Outcome
from broadcast.owner import error_from, payload_of
from runtime.errors import GatewayError, LeaderLost, SubscribeTimeout


def test_an_error_crosses_unchanged() -> None:
    """Code, words, status and whether to try again, from one process to another."""
    error = GatewayError("words", code="a_code", retryable=True, status=422)
    read = error_from(payload_of(error))
    assert (read.code, read.message, read.retryable, read.status) == ("a_code", "words", True, 422)
    for junk in (b"", b"[]", b'{"code":"x"}', b"\xff"):
        assert error_from(junk).code == LeaderLost.code


def test_an_end_without_an_error_carries_its_reason_at_most() -> None:
    """And is not taken for an error's code by whoever reads it."""
    assert payload_of(None) == b"{}"
    assert payload_of(None, "abandoned") == b'{"reason":"abandoned"}'


def test_what_has_ended_unwatched_says_so_everywhere() -> None:
    """An expiry told without an error is nobody's loss of a leader; Retry-After is what was measured."""
    assert error_from(payload_of(None), Outcome.EXPIRED).code == SubscribeTimeout.code
    assert error_from(payload_of(GatewayError(retry_after=7.5))).retry_after == 7.5
