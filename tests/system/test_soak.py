"""The soak of bench/soak.py in small: the same load, the same weather, the same judgement."""

from __future__ import annotations

import pytest

from bench.soaking.scene import scene
from bench.soaking.soak import Outcome, Plan, soak
from tests.system.processes import workers

pytestmark = pytest.mark.anyio

PLAN = Plan(warm_s=3.0, load_s=8.0, people=12, burst_every_s=3.0, burst_s=1.5, restart_every_s=4.0, seed=91)


async def test_everything_at_once_leaves_nothing_behind() -> None:
    """Rows 91, 98, 99: readers, resumes, drops, cancels, a frozen reader, a failing model, a Redis that dies;
    then files, threads, tasks, permits, records and keys are at rest, and the ledger says what was so. How
    memory grows is for the long run: so few requests do not show it."""
    with scene(workers(), embedded=False, seed=PLAN.seed, RETENTION_S=6) as made:
        outcome = await soak(made, PLAN)
    assert outcome.tally.words == []
    assert [verdict for verdict in outcome.verdicts if not verdict.kept] == []
    _was_a_soak(outcome)


def _was_a_soak(outcome: Outcome) -> None:
    """Each kind of visit and each trouble came about, or nothing was proved."""
    ways, ends = outcome.tally.ways, outcome.tally.ends
    for way in ("reads", "resumes", "polls", "cancels", "freezes", "whole", "streamed", "hit"):
        assert ways[way], way
    assert ways["drops_stream"]
    assert ways["drops_call"]
    assert ends["done"]
    assert ends["cancelled"]
    assert outcome.bursts
    assert outcome.restarts
    assert outcome.scrapes
