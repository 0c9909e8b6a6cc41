"""The whole Phase by Signal table, cell by cell."""

from __future__ import annotations

from itertools import product

import pytest

from broadcast.lifecycle import PENDING, RUNNING, TRANSITIONS, IllegalTransition, Phase, Signal, advance

# Written out, and not derived from the code: a row per phase, a column per signal, "-" where it is illegal.
TABLE = """
           granted    prepared subscribed deserted slot_granted retry  complete fail   abandon   expire
waiting    preparing  -        -          -        -            -      -        failed cancelled expired
preparing  -          idle     -          -        -            -      -        failed cancelled expired
idle       -          -        queued     -        -            -      -        failed cancelled expired
queued     -          -        -          idle     live         -      -        failed cancelled expired
live       -          -        -          -        -            queued sealed   failed cancelled expired
sealed     -          -        -          -        -            -      -        -      -         -
failed     -          -        -          -        -            -      -        -      -         -
cancelled  -          -        -          -        -            -      -        -      -         -
expired    -          -        -          -        -            -      -        -      -         -
"""


def cells() -> dict[tuple[Phase, Signal], Phase | None]:
    head, *rows = [line.split() for line in TABLE.strip().splitlines()]
    return {
        (Phase(phase), Signal(signal)): None if to == "-" else Phase(to)
        for phase, *row in rows
        for signal, to in zip(head, row, strict=True)
    }


def test_the_table_above_has_a_cell_for_every_phase_and_signal() -> None:
    """A new phase or signal has to be thought through against all the others."""
    assert set(cells()) == set(product(Phase, Signal))


@pytest.mark.parametrize(("phase", "signal"), list(product(Phase, Signal)))
def test_every_signal_in_every_phase_does_what_the_table_says(phase: Phase, signal: Signal) -> None:
    """Legal ones lead where they should, illegal ones are refused and named."""
    to = cells()[phase, signal]
    if to is None:
        with pytest.raises(IllegalTransition, match=f"{signal} in phase {phase}"):
            advance(phase, signal)
    else:
        assert advance(phase, signal) is to


def test_an_end_is_for_ever_and_everything_else_runs() -> None:
    """Row 39: what has ended in one way can never end in another."""
    ended = {Phase.SEALED, Phase.FAILED, Phase.CANCELLED, Phase.EXPIRED}
    assert set(RUNNING) == set(Phase) - ended
    assert all(TRANSITIONS[phase] == {} for phase in ended)


def test_every_phase_can_be_reached_and_every_running_one_can_end() -> None:
    """No dead state, and no state without a way out that a waiting client would see."""
    reached = {Phase.WAITING}
    while more := {to for phase in reached for to in TRANSITIONS[phase].values()} - reached:
        reached |= more
    assert reached == set(Phase)
    for phase in RUNNING:
        assert {Phase.FAILED, Phase.CANCELLED, Phase.EXPIRED} <= set(TRANSITIONS[phase].values())


def test_what_is_pending_holds_no_slot() -> None:
    """MAX_PENDING bounds what is prepared and has no slot: no other phase."""
    assert set(PENDING) == {Phase.IDLE, Phase.QUEUED}


def test_an_answer_can_only_be_complete_while_it_streams() -> None:
    """Rule 15: there is no way to a sealed answer but through a live stream."""
    assert [phase for phase in Phase if Phase.SEALED in TRANSITIONS[phase].values()] == [Phase.LIVE]
