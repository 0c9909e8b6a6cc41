"""One flight, several calls at a time: each waits in its own place, all of them with the flight's turn.

A flight has room for one admission. While a workflow runs, a `Fan` stands there for those of all its calls:
when somebody with a better turn joins the flight, every one of them moves.
"""

from __future__ import annotations

import asyncio
from typing import cast

from admission import Admission
from processing.preparer import Turn
from processing.twins import Company
from runtime.errors import PrepareFailed


class TooManyCalls(PrepareFailed):
    """The run has used up its `limits.calls`."""


class Budget:
    """How many calls a run may make, with those of all that it nests."""

    __slots__ = ("_limit", "_workflow", "made")

    def __init__(self, limit: int, workflow: str) -> None:
        self._limit = limit
        self._workflow = workflow
        self.made = 0

    def take(self) -> None:
        if self.made >= self._limit:
            what = f"The workflow {self._workflow!r} would make more than its {self._limit} calls."
            raise TooManyCalls(what, retryable=False)
        self.made += 1


class StepTurn:
    """The turn of one try of a step. Counts its calls and the time that it waited for their permits.

    What stands in `admission` is whatever is waited for now. An `Admission` is one for a call, a `Company` is
    a call that may be shared; anything else that has a place in a queue moves with the flight too, and counts
    as running.
    """

    def __init__(self, fan: Fan) -> None:
        self._fan = fan
        self._place: Admission | None = None
        self._calls: list[Admission] = []
        self._shared: list[tuple[Company, float]] = []
        self._paid = False
        self.calls = 0

    @property
    def order(self) -> float:
        return self._fan.flight.order

    @property
    def admission(self) -> Admission | None:
        return self._place

    @admission.setter
    def admission(self, place: Admission | None) -> None:
        """Said by whoever waits. A call beyond the budget gives its place back in the same turn."""
        if isinstance(place, Admission | Company):
            try:
                if not self._paid:
                    self.pay()
            except TooManyCalls:
                place.withdraw()
                raise
            self._paid = False
            if isinstance(place, Company):
                self._shared.append((place, asyncio.get_running_loop().time()))
            else:
                self._calls.append(place)
        self._place = place

    def pay(self) -> None:
        """For the next call, made or joined; tries after it and rounds of tools pay on their way."""
        self._fan.budget.take()
        self._paid = True
        self.calls += 1

    def queued_s(self, now: float) -> float:
        """Seconds before grants, so far."""
        own = sum((now if each.permit is None else each.granted_at) - each.asked_at for each in self._calls)
        return own + sum(company.queued_s(since, now) for company, since in self._shared)


class Fan:
    """Stands in the flight's place for every call that its workflow makes."""

    permit = None  #: what a flight looks at before it moves

    def __init__(self, flight: Turn, budget: Budget) -> None:
        self.flight = flight
        self.budget = budget
        self._turns: list[StepTurn] = []
        self._before: Admission | None = None

    def __enter__(self) -> Fan:
        self._before = self.flight.admission
        self.flight.admission = cast(Admission, self)
        return self

    def __exit__(self, *_: object) -> None:
        if self.flight.admission is cast(Admission, self):
            self.flight.admission = self._before

    def open(self) -> StepTurn:
        turn = StepTurn(self)
        self._turns.append(turn)
        return turn

    @property
    def position(self) -> int:
        """The best of all; 0 if none waits."""
        return min((admission.position for admission in self._waiting()), default=0)

    def told(self, position: int) -> int:
        return position

    def reorder(self) -> None:
        for admission in self._waiting():
            admission.reorder()

    def withdraw(self) -> None:
        """The flight is given up: its work is cancelled too, and each call gives back its own."""

    def _waiting(self) -> list[Admission]:
        places = (turn.admission for turn in self._turns)
        return [place for place in places if place is not None and place.permit is None]
