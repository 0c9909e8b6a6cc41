"""A pause in granting, and the gradual restart after it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

#: After a pause at most 10 % of the capacity, and at least one, is granted per step.
STEP_S = 0.1
STEPS = 10


class Pause:
    """Says whether a grant is allowed now; calls `on_room` whenever more become allowed."""

    def __init__(self, capacity: int, on_room: Callable[[], None]) -> None:
        self._per_step = max(1, capacity // STEPS)
        self._on_room = on_room
        self._until = 0.0
        self._steps_left = 0
        self._budget: int | None = None  # None: no pause, no restart, no bound
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, seconds: float) -> None:
        """Allow nothing for `seconds`; a pause under way is never shortened."""
        loop = asyncio.get_running_loop()
        until = loop.time() + max(0.0, seconds)
        if until <= self._until:
            return
        self._until = until
        self._budget = 0
        self._steps_left = STEPS
        self._arm(until)

    def allows(self) -> bool:
        """Take one grant from what is allowed now."""
        if self._budget is None:
            return True
        if self._budget == 0:
            return False
        self._budget -= 1
        return True

    def remaining(self) -> float:
        """Seconds until the first grant may follow."""
        if self._budget is None:
            return 0.0
        return max(0.0, self._until - asyncio.get_running_loop().time())

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._step)

    def _step(self) -> None:
        self._timer = None
        if self._steps_left == 0:
            self._budget = None
        else:
            self._steps_left -= 1
            self._budget = self._per_step
            self._arm(asyncio.get_running_loop().time() + STEP_S)
        self._on_room()
