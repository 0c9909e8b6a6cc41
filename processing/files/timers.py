"""A timer around one that a file sets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Outer:
    """`setting` is what an operator knows it by."""

    setting: str
    seconds: float

    def hides(self, timeout_s: float | None) -> str:
        """What is wrong with an inner one that ends later: its failures would carry the wrong name."""
        if timeout_s is None or timeout_s < self.seconds:
            return ""
        return f"timeout_s ({timeout_s:g}) must be less than {self.setting} ({self.seconds:g})"


UNBOUNDED: Final = Outer("no timer", math.inf)
