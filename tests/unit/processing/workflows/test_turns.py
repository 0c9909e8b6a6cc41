"""Several calls of one flight wait in one queue: all of them have the turn that the flight has now."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from admission import Admission, Stage
from processing.workflows.turns import Budget, Fan, StepTurn, TooManyCalls
from tests.fakes.invariants import assert_free
from tests.fakes.turn import FakeTurn
from tests.fakes.turns import settle
from tests.fakes.workflows import Flows
from tests.virtual_time import virtual

THREE = """
    name: three
    pattern: fork_join
    branches: [{name: a, prompt: a}, {name: b, prompt: b}, {name: c, prompt: c}]
    answer: {name: end, prompt: x}
"""


@virtual
async def test_every_waiting_call_moves_when_somebody_better_joins() -> None:
    """No inversion: a flight whose turn has become the best must not wait with two of its three calls."""
    flows = Flows(THREE, calls=1)
    holder = flows.stage.admit(FakeTurn(-1))
    others = [flows.stage.admit(FakeTurn(10)) for _ in range(3)]
    flows.turn.order = 30
    async with asyncio.TaskGroup() as group:
        task = group.create_task(flows.run("three"))
        await settle()
        place = flows.turn.admission
        assert place is not None
        assert (place.permit, place.position) == (None, 4)
        flows.turn.order = 5
        place.reorder()
        assert place.position == 1
        holder.withdraw()
        await task
        assert flows.stage.stats().waiting == 2
        for other in others:
            other.withdraw()
    assert flows.turn.admission is None
    flows.assert_over()


@virtual
async def test_the_flight_gets_its_own_place_back() -> None:
    """What it held before is still held, and its owner looks there for it."""
    flows = Flows(THREE)
    leaders = Stage("leaders", 1)
    mine = flows.turn.admission = leaders.admit(flows.turn)
    await flows.run("three")
    assert flows.turn.admission is mine
    mine.withdraw()


@virtual
async def test_a_place_that_the_flight_has_taken_meanwhile_is_left_to_it() -> None:
    """A broadcast that begins anew has no place: an old one must not come back."""
    stage = Stage("leaders", 1)
    flight = FakeTurn()
    flight.admission = before = stage.admit(flight)
    with Fan(flight, Budget(1, "w")):
        flight.admission = None
    assert flight.admission is None
    before.withdraw()


@virtual
async def test_a_call_beyond_the_budget_leaves_no_place_behind() -> None:
    """It is refused after it asked: its permit, or its place in the queue, goes back in the same turn."""
    stage = Stage("llm_calls", 1)
    turn = StepTurn(Fan(FakeTurn(), Budget(1, "w")))
    turn.admission = first = stage.admit(turn)
    with pytest.raises(TooManyCalls):
        turn.admission = stage.admit(turn)
    assert stage.stats().waiting == 0
    assert (turn.admission, turn.calls) == (first, 1)
    assert turn.queued_s(first.asked_at + 60) == 0
    first.withdraw()
    with pytest.raises(TooManyCalls):
        turn.admission = stage.admit(turn)
    assert_free(stage)


@virtual
async def test_a_call_is_paid_once_whether_it_is_made_or_joined() -> None:
    """A shared call asks for no permit of its own, and a retry asks for a second one."""
    stage = Stage("llm_calls", 5)
    budget = Budget(3, "w")
    turn = StepTurn(Fan(FakeTurn(), budget))
    turn.pay()
    turn.admission = first = stage.admit(turn)
    turn.admission = again = stage.admit(turn)
    turn.pay()
    assert (turn.calls, budget.made) == (3, 3)
    with pytest.raises(TooManyCalls):
        turn.pay()
    first.withdraw()
    again.withdraw()
    assert_free(stage)


@virtual
async def test_work_that_is_no_call_of_its_own_moves_with_the_flight() -> None:
    """Tools stand in the turn's place with a place of their own: it moves, and it is no call."""
    moved = []

    class Work:
        permit = None
        position = 3

        def reorder(self) -> None:
            moved.append(True)

    fan = Fan(FakeTurn(), Budget(1, "w"))
    turn = fan.open()
    turn.admission = cast(Admission, Work())
    fan.reorder()
    assert (moved, fan.position, turn.calls) == ([True], 3, 0)
    turn.admission = None
    assert (fan.position, turn.queued_s(1e9)) == (0, 0)
