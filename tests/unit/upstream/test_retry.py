"""When a failed call is tried again: pure decisions, no waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from runtime.errors import UpstreamError, UpstreamRateLimited, UpstreamTruncated, UpstreamUnreachable
from upstream.errors import UpstreamUnavailable
from upstream.retry import RetryPolicy, is_transient


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def highest(low: float, high: float) -> float:
    return high


def lowest(low: float, high: float) -> float:
    return low


def policy(
    uniform: Callable[[float, float], float] = highest, clock: Clock | None = None, attempts: int = 3
) -> RetryPolicy:
    return RetryPolicy(clock or Clock(), uniform=uniform, attempts=attempts)


@pytest.mark.parametrize("error", [UpstreamRateLimited(), UpstreamUnreachable(), UpstreamUnavailable()])
def test_what_may_pass_is_tried_again(error: UpstreamError) -> None:
    """Rate limits, gateways' 5xx, and calls that got no response."""
    assert policy().delay(error, 1) is not None


@pytest.mark.parametrize(
    "error", [UpstreamError(), UpstreamTruncated(), asyncio.CancelledError(), ValueError()]
)
def test_what_is_final_is_not(error: BaseException) -> None:
    """A cancellation least of all."""
    assert not is_transient(error)
    assert policy().delay(error, 1) is None


def test_three_attempts_are_the_limit() -> None:
    """Two retries, then the error is the answer."""
    retries = policy()
    assert [retries.delay(UpstreamUnreachable(), attempt) is None for attempt in (1, 2, 3)] == [
        False,
        False,
        True,
    ]


def test_the_back_off_doubles_up_to_its_cap() -> None:
    """The upper end of the jitter."""
    retries = policy(attempts=9)
    delays = [retries.delay(UpstreamUnreachable(), attempt) for attempt in range(1, 8)]
    assert delays == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0]


def test_the_jitter_is_full() -> None:
    """The lower end is no wait at all."""
    assert policy(lowest).delay(UpstreamUnreachable(), 2) == 0.0


def test_retry_after_is_the_least_wait() -> None:
    """The jitter comes on top of it, never instead of it."""
    error = UpstreamRateLimited(retry_after=1.0)
    assert policy(lowest).delay(error, 1) == 1.0
    assert policy(highest).delay(error, 1) == 1.25


def test_the_budget_is_ten_plus_a_tenth_of_the_calls() -> None:
    """A hundred calls earn ten retries more."""
    retries = policy()
    for _ in range(100):
        retries.note_call()
    granted = sum(retries.delay(UpstreamUnreachable(), 1) is not None for _ in range(50))
    assert granted == 20


def test_the_budget_comes_back_after_the_window() -> None:
    """Ten seconds later the old retries and the old calls are forgotten."""
    clock = Clock()
    retries = policy(clock=clock)
    assert sum(retries.delay(UpstreamUnreachable(), 1) is not None for _ in range(50)) == 10
    clock.now += 10.0
    assert sum(retries.delay(UpstreamUnreachable(), 1) is not None for _ in range(50)) == 10


def test_a_refused_retry_spends_nothing() -> None:
    """Neither a final error nor a last attempt uses the budget up."""
    retries = policy()
    for _ in range(50):
        retries.delay(UpstreamError(), 1)
        retries.delay(UpstreamUnreachable(), 3)
    assert repr(retries) == "<RetryPolicy 0 retries, 0 calls in 10 s>"
