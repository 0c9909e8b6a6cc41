"""When each token of a stream is due. No asyncio: the caller brings the time and does the waiting."""

from __future__ import annotations

# A timer may fire, and float arithmetic may land, a hair before the due time; without this slack the
# caller would wait again for a span too small to move its clock.
_SLACK = 1e-6


class Pacer:
    """Due times are absolute (seconds on the caller's clock): a token sent late delays no other."""

    def __init__(self, first_due: float, tps: float) -> None:
        self.next_due = first_due
        self._interval = 1 / tps if tps else 0.0

    def take(self, now: float, available: int) -> int:
        """How many of the `available` tokens are due by now; they count as sent."""
        late = now + _SLACK - self.next_due
        if late < 0 or not available:
            return 0
        due = min(available, 1 + int(late / self._interval)) if self._interval else available
        self.next_due += due * self._interval
        return due

    def resume(self, now: float) -> None:
        """Go on after a hold: the time spent in it is not made up for."""
        self.next_due = max(self.next_due, now)
