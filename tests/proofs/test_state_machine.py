"""The pipeline against a plain model, under anything that clients, model, Redis and time may do.

`make test` runs 500 histories of up to 50 steps, always the same; `make prove` runs PROVE_EXAMPLES of
them, in rounds of 500 from new seeds, which it prints. To run one round again: PROVE_SEED=<seed>.
What it is able to find is in `tests.proofs.mutants`.
"""

from __future__ import annotations

import os
import secrets
import sys

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.proofs.machine import PipelineMachine

#: Set by `make prove`.
EXAMPLES = int(os.environ.get("PROVE_EXAMPLES", "0"))
SEED = int(os.environ.get("PROVE_SEED", "0"))
PER_ROUND = 500
STEPS = 50
ROUNDS = max(1, -(-EXAMPLES // PER_ROUND))


def of_examples(number: int) -> settings:
    return settings(
        max_examples=number,
        stateful_step_count=STEPS,
        derandomize=not (EXAMPLES or SEED),
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.parametrize("number", range(ROUNDS))
def test_every_history_keeps_the_invariants(number: int) -> None:
    """I1 to I3 after each step, and everything at rest at the end of each run."""
    machine: type[PipelineMachine] = type("Machine", (PipelineMachine,), {})
    if EXAMPLES or SEED:
        chosen = SEED or secrets.randbits(32)
        print(f"round {number + 1} of {ROUNDS}: PROVE_SEED={chosen}", file=sys.__stderr__)
        machine = seed(chosen)(machine)
    run_state_machine_as_test(machine, settings=of_examples(min(PER_ROUND, EXAMPLES or PER_ROUND)))
