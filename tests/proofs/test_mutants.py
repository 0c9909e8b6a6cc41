"""The proof that the state machine can fail: each planted bug of `tests.proofs.mutants` is found."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.proofs.machine import PipelineMachine
from tests.proofs.mutants import MUTANTS

#: A bound for the rarest: the search ends with the first that is found.
ENOUGH = settings(
    max_examples=2000, stateful_step_count=50, derandomize=True, report_multiple_bugs=False,
    phases=[Phase.generate], suppress_health_check=list(HealthCheck),
)  # fmt: skip


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_the_state_machine_finds_a_planted_bug(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that nothing can fail proves nothing."""
    MUTANTS[name](monkeypatch)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(PipelineMachine, settings=ENOUGH)
