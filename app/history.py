"""The last minutes of an instance and of each of its workers, a sample a second, for the charts of the page.

It is kept where all readings meet: by the parent of the workers, or by a process that is alone.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from app.readings import Instance, Reading, add_stages, add_totals
from runtime.metrics import STAGES

#: Seconds between two samples, and how many are kept: five minutes.
EVERY_S: Final = 1.0
KEPT: Final = 300
#: Counters but for those that say what is now; a worker's begin anew when it is started again.
_TOTALS: Final = (
    "subscribers",
    "broadcasts",
    "upstream_in_flight",
    "requests",
    "hits",
    "joins",
    "refused",
    "upstream_calls",
    "tokens",
    "tokens_saved",
)
FIELDS: Final = ("at", *(f"{name}_{what}" for name in STAGES for what in ("in_use", "waiting")), *_TOTALS)
#: Whose samples the sums are.
INSTANCE: Final = 0

Row = list[float]


class History:
    """State: the rows of each worker by its number, those of the instance under 0."""

    def __init__(self) -> None:
        self._rows: dict[int, deque[Row]] = {}
        self._procs: list[str] = []

    def add(self, instance: Instance, at: float) -> None:
        """`at` is wall clock, in seconds. The departed count in the sums, so that those never go back."""
        self._procs = [one.proc for one in instance.readings]
        departed = [instance.departed] if instance.departed else []
        self._add(INSTANCE, [*instance.readings, *departed], at)
        for one in instance.readings:
            self._add(one.worker, [one], at)

    def shown(self, worker: int | None = None) -> dict[str, Any]:
        """The body of `GET /pipeline/history`: of one worker, or of all. `procs`: of which instance."""
        rows = self._rows.get(INSTANCE if worker is None else worker, ())
        return {"every_s": EVERY_S, "fields": list(FIELDS), "rows": list(rows), "procs": self._procs}

    def _add(self, whose: int, readings: list[Reading], at: float) -> None:
        if readings:
            self._rows.setdefault(whose, deque(maxlen=KEPT)).append(_row(readings, at))


def _row(readings: list[Reading], at: float) -> Row:
    stages = {stage.name: stage for stage in add_stages(readings)}
    totals = add_totals(readings)
    used = [value for name in STAGES for value in (stages[name].in_use, stages[name].waiting)]
    return [round(at, 1), *used, *(totals.get(name, 0) for name in _TOTALS)]
