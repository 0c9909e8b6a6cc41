"""No call without a permit."""

from __future__ import annotations

import pytest

from tests.fakes.permit import FakePermit
from upstream.errors import PermitRequired
from upstream.permit import require


@pytest.mark.parametrize("stage", ["llm_streams", "llm_calls"])
def test_a_held_permit_of_an_llm_stage_is_enough(stage: str) -> None:
    """These two stages are what bounds the load on the model."""
    require(FakePermit(stage))


@pytest.mark.parametrize(
    "permit", [FakePermit(held=False), FakePermit("leaders"), FakePermit("cache", held=False)]
)
def test_any_other_is_a_bug(permit: FakePermit) -> None:
    """Not held, or of another stage."""
    with pytest.raises(PermitRequired):
        require(permit)
