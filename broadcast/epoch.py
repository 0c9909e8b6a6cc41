"""Epochs: the first half of every event's id, and the fencing token of whoever writes a log."""

from __future__ import annotations

import time


class Epochs:
    """Strictly rising, and near the wall clock in milliseconds, so that a restart leaps forward too."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        self._last = max(self._last + 1, int(time.time() * 1000))
        return self._last
