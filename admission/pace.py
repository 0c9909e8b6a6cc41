"""How long a permit is held, as measured: what every prediction of a wait rests on."""

from __future__ import annotations

from typing import Final

#: Weight of the newest sample.
NEWEST: Final = 0.2
#: After so many seconds without a sample the measurement says nothing about now.
STALE_S: Final = 60.0


class HoldingTime:
    """A moving mean, in seconds. `now` is loop time."""

    __slots__ = ("_last_at", "_mean")

    def __init__(self) -> None:
        self._mean: float | None = None
        self._last_at = 0.0

    def learn(self, held_s: float, now: float) -> None:
        mean = self.mean(now)
        self._mean = held_s if mean is None else mean + NEWEST * (held_s - mean)
        self._last_at = now

    def mean(self, now: float) -> float | None:
        """None if nothing has been measured, or not for a while."""
        return None if now - self._last_at > STALE_S else self._mean
