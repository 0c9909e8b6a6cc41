"""The seeded chance behind the failure rates."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Roll:
    """Four numbers from 0 up to, not including, 1: what chance brings to one call."""

    fail: float
    truncate: float
    stall: float
    place: float

    def point(self, length: int) -> int:
        """A place inside an answer of `length` tokens: after its first, before its last."""
        return 1 + int(self.place * (length - 1)) if length > 1 else 0


class Dice:
    """One roll per call, in order of arrival. The same seed brings the same calls the same fate."""

    def __init__(self, seed: int, purpose: str) -> None:
        self._chance = random.Random(f"{seed}:{purpose}")

    def roll(self) -> Roll:
        # Always all four: raising one rate then leaves the fate that the other rates brought as it was.
        draw = self._chance.random
        return Roll(draw(), draw(), draw(), draw())
