"""The cancellation storm, in small."""

from __future__ import annotations

import pytest

from bench.cancel_storm import CONCURRENCY, GOOD, storm

pytestmark = pytest.mark.anyio


async def test_a_thousand_cancelled_calls_cost_the_pool_nothing() -> None:
    """Afterwards it serves as many at a time as before, and closes them all."""
    result = await storm(requests=1000, seed=1)
    assert result.cancelled + result.finished == 1000
    assert not result.errors
    assert result.good == GOOD
    assert result.open_after_good <= CONCURRENCY
    assert result.open_after_close == 0
