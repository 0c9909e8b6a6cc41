"""When a failed upstream call is worth another try, and after how long. No I/O, no loop."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

from runtime.errors import UpstreamRateLimited, UpstreamUnreachable
from upstream.errors import UpstreamUnavailable

_TRANSIENT = (UpstreamRateLimited, UpstreamUnreachable, UpstreamUnavailable)


def is_transient(error: BaseException) -> bool:
    """True for a 429, a 502, 503 or 504, and for a call that got no response. Never for a cancellation."""
    return isinstance(error, _TRANSIENT)


class RetryPolicy:
    """At most `attempts` tries per call, exponential back-off with full jitter, and a budget for all.

    The budget keeps retries from becoming the load that prevents recovery: over the last `window_s`
    seconds, retries never exceed `ratio` of the calls noted, plus `floor`. `clock` gives seconds from
    any origin (the loop's `time`), `uniform(a, b)` a random number between the two.

    Full jitter: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        uniform: Callable[[float, float], float] = random.uniform,
        attempts: int = 3,
        base_s: float = 0.25,
        cap_s: float = 8.0,
        window_s: float = 10.0,
        ratio: float = 0.1,
        floor: int = 10,
    ) -> None:
        self._clock = clock
        self._uniform = uniform
        self._attempts = attempts
        self._base_s = base_s
        self._cap_s = cap_s
        self._window_s = window_s
        self._ratio = ratio
        self._floor = floor
        # State: when calls were made and retries granted, oldest first, within the window.
        self._calls: deque[float] = deque()
        self._retries: deque[float] = deque()

    def __repr__(self) -> str:
        return f"<RetryPolicy {len(self._retries)} retries, {len(self._calls)} calls in {self._window_s:g} s>"

    def note_call(self) -> None:
        """A call's first attempt is being made; it earns budget."""
        self._calls.append(self._clock())
        self._forget()

    def delay(self, error: BaseException, attempt: int) -> float | None:
        """Seconds to wait before the next try, None if there must be none.

        `attempt` counts the tries made so far, from 1. A number, once returned, is spent from the
        budget. An upstream's `Retry-After` is the least wait, with the jitter on top, so that those
        who were all told the same do not all come back at once.
        """
        if not is_transient(error) or attempt >= self._attempts:
            return None
        self._forget()
        if len(self._retries) >= self._ratio * len(self._calls) + self._floor:
            return None
        self._retries.append(self._clock())
        least = getattr(error, "retry_after", None) or 0.0
        ceiling = min(self._cap_s, self._base_s * 2.0 ** (attempt - 1))
        return float(least + self._uniform(0.0, ceiling))

    def _forget(self) -> None:
        horizon = self._clock() - self._window_s
        for times in (self._calls, self._retries):
            while times and times[0] <= horizon:
                times.popleft()
