"""Who goes first: by class, then by age, with a bound on how long a low class can be passed over.

Class and age are folded into one number, so that a waiting room is one sorted list. A batch request
counts as having come `AGING_S` later than it did: every interactive request of those seconds goes
before it, none that comes after them does.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

AGING_S: Final = 30.0


class Priority(StrEnum):
    INTERACTIVE = "interactive"
    BATCH = "batch"


def order_of(priority: Priority, arrived_at: float) -> float:
    """The sort key of a request: seconds on the loop's clock, smaller goes first."""
    return arrived_at + (AGING_S if priority is Priority.BATCH else 0.0)
