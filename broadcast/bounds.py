"""How much a broadcast manager may do at once, and for how long."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """`max_pending` broadcasts prepared or waiting for a slot; bytes of a log; seconds of the waits."""

    max_pending: int
    max_log_bytes: int
    queue_s: float
    slot_s: float
    prepare_s: float
