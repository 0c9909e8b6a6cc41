"""Five minutes of an instance: rows that fit their fields, bounded, and that never go back."""

from __future__ import annotations

from typing import Any

from app.history import FIELDS, KEPT, History
from app.readings import Instance, bury
from tests.fakes.readings import every_stage, reading


def columns(history: History, worker: int | None = None) -> dict[str, list[Any]]:
    shown = history.shown(worker)
    return {name: [row[at] for row in shown["rows"]] for at, name in enumerate(shown["fields"])}


def test_a_row_has_every_field_of_its_moment() -> None:
    """Slots and waiters of each stage, and the totals that charts are drawn from; per worker and in all."""
    history = History()
    totals = {"requests": 5, "hits": 2, "subscribers": 3}
    workers = [reading(n, *every_stage(admitted=2, waiting=n), totals=totals) for n in (1, 2)]
    history.add(Instance(workers), 1000.04)
    seen = columns(history)
    assert seen["at"] == [1000.0]
    assert (seen["leaders_in_use"], seen["leaders_waiting"]) == ([4], [3])
    assert (seen["requests"], seen["hits"], seen["subscribers"], seen["tokens"]) == ([10], [4], [6], [0])
    assert columns(history, 2)["leaders_waiting"] == [2]
    assert columns(history, 3) == {name: [] for name in FIELDS}


def test_only_the_last_minutes_are_kept() -> None:
    """A process that runs for months keeps no more than a page shows."""
    history = History()
    for second in range(KEPT + 5):
        history.add(Instance([reading(1, *every_stage())]), float(second))
    assert columns(history)["at"] == [float(second) for second in range(5, KEPT + 5)]


def test_the_departed_count_in_what_was_and_not_in_what_is() -> None:
    """A chart of rates must not show a killed worker as minus a thousand requests."""
    history = History()
    dead = reading(2, *every_stage(admitted=3), totals={"requests": 7, "subscribers": 4})
    alive = reading(1, *every_stage(), totals={"requests": 1, "subscribers": 1})
    history.add(Instance([alive, dead]), 1.0)
    history.add(Instance([alive], bury(None, dead)), 2.0)
    seen = columns(history)
    assert (seen["requests"], seen["subscribers"], seen["leaders_in_use"]) == ([8, 8], [5, 1], [3, 0])


def test_before_the_first_reading_there_is_nothing() -> None:
    """Workers that are just starting have no row of zeros."""
    history = History()
    history.add(Instance([]), 1.0)
    assert columns(history)["at"] == []
