"""Readings of workers as a test needs them, without a gateway behind them."""

from __future__ import annotations

from typing import Any

from app.readings import Reading
from runtime.metrics import STAGES, Family, StageReading


def stage(name: str = "leaders", *, admitted: int = 0, released: int = 0, **more: Any) -> StageReading:
    """Whatever is admitted and not released is in use."""
    held = admitted - released - more.get("reclaimed", 0)
    known = {"capacity": 4, "in_use": held, "waiting": 0, "max_waiting": 10, "oldest_wait_s": 0.0}
    return StageReading(name=name, admitted=admitted, released=released, **{**known, **more})


def every_stage(**more: Any) -> list[StageReading]:
    return [stage(name, **more) for name in STAGES]


def counter(value: float, **labels: str) -> Family:
    return Family("refrain_calls", "Calls.", "counter", [("refrain_calls_total", labels, value)])


def gauge(value: float) -> Family:
    return Family("refrain_open", "Open now.", "gauge", [("refrain_open", {}, value)])


def reading(worker: int, *stages: StageReading, **more: Any) -> Reading:
    known: dict[str, Any] = {
        "pid": 1000 + worker,
        "proc": f"{worker:016x}",
        "state": "ready",
        "model": "simulated",
        "broadcasts": [],
        "totals": {},
        "families": [],
    }
    return Reading(worker, stages=list(stages), **{**known, **more})
