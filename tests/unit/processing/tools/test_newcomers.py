"""How long others may join an answer that was made with tools."""

from __future__ import annotations

from dataclasses import replace

import pytest

from processing.tools.bound import BoundRounds
from processing.tools.results import Status
from processing.tools.rounds import Talk
from processing.tools.step import bounded
from processing.tools.tool import Tool
from tests.fakes.tools import ANN, Played, Scene
from tests.fakes.turn import prompt
from tests.unit.processing.tools.test_rounds_edges import talk


@pytest.mark.parametrize(
    ("talks", "before", "after"),
    [
        ([], None, None),
        ([talk(None)], None, None),
        ([talk(None)], 5.0, 5.0),
        ([talk(60.0, 30.0, None)], None, 30.0),
        ([talk(60.0), talk(50.0)], None, 50.0),
        ([talk(50.0), talk(0.0)], None, 0.0),
        ([talk(50.0)], 60.0, 50.0),
        ([talk(50.0)], 40.0, 40.0),
        ([talk(500.0)], None, 500.0),
        ([talk(50.0, status=Status.FAILED)], None, 50.0),
    ],
)
def test_others_join_for_as_long_as_the_shortest_lived_tool_says(
    talks: list[Talk], before: float | None, after: float | None
) -> None:
    """Row 12: data is never shown older than its tool allows; the cache's own time has no part in it."""
    assert bounded(replace(prompt(), fresh_s=before), talks, 100.0).fresh_s == after


def test_an_effect_is_claimed_by_whoever_had_it() -> None:
    """Row 12: after the preparation nobody joins an answer that says that something has been done."""
    order: Tool = Played().sleeper("order", cacheable=False, stateful=True)
    used = Talk([], used={"order": order})
    assert bounded(prompt(), [used], 100.0).fresh_s == 0.0


def test_steps_of_a_workflow_bound_its_answer() -> None:
    """The same for what its steps have used, whichever of them."""
    scene = Scene(tools=(Played().sleeper(),))
    bound = BoundRounds(scene.step._rounds, ANN, 100.0, talks=[talk(None), talk(7.0)])
    assert bound.bounded(prompt()).fresh_s == 7.0


def test_what_a_hook_has_said_of_the_cache_bounds_no_joining() -> None:
    """Its `ttl_s` is for how long an answer is kept: while it is made, it is shared as any other."""
    assert bounded(replace(prompt(), ttl_s=0.0, store=False), [talk(None)], 100.0).fresh_s is None
