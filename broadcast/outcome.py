"""How a request ended: a closed set of outcomes, used as a metric label."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, auto

from runtime.errors import GatewayError


class Outcome(StrEnum):
    COMPLETED = auto()
    FAILED = auto()
    CANCELLED = auto()
    SHED = auto()  #: refused at once, so it never became a request
    EXPIRED = auto()


@dataclass(frozen=True, slots=True)
class End:
    """The one end of a request. `at` is loop time; `shared` ends are the broadcast's own, for all alike.

    `error` is set for failed and expired, `reason` for cancelled.
    """

    outcome: Outcome
    at: float
    shared: bool
    error: GatewayError | None = None
    reason: str | None = None
