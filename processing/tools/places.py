"""Where a flight's tools wait: several at a time, all with the flight's turn.

A flight has room for one admission. While its tools run, this stands there for all of them: when somebody
better joins the flight, every one that waits moves.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from admission import Admission
from processing.preparer import Turn
from processing.twins import Company


class Places:
    """The companies in which a round's calls are now."""

    permit = None  #: what a flight looks at before it moves

    def __init__(self) -> None:
        self._companies: list[Company] = []

    @contextmanager
    def stand_in(self, turn: Turn) -> Iterator[None]:
        """In the place of `turn`, meanwhile. Not for one that counts its admissions as calls of a model."""
        before, turn.admission = turn.admission, cast(Admission, self)
        try:
            yield
        finally:
            if turn.admission is cast(
                Admission, self
            ):  # else it has been let go meanwhile, or has a new place
                turn.admission = before

    @contextmanager
    def kept(self, company: Company) -> Iterator[None]:
        self._companies.append(company)
        try:
            yield
        finally:
            self._companies.remove(company)

    @property
    def position(self) -> int:
        """The best of all; 0 if none waits."""
        return min((place for company in self._companies if (place := company.position)), default=0)

    def told(self, position: int) -> int:
        return position

    def reorder(self) -> None:
        for company in self._companies:
            company.reorder()

    def withdraw(self) -> None:
        """The flight is given up: its work is cancelled too, and each call gives back its own."""
