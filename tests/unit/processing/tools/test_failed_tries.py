"""Tries of a step that came to nothing: what their tools did is not forgotten."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from processing.account import account_of
from processing.preparer import Prompt
from processing.tools.bound import BoundRounds
from runtime.errors import UpstreamError
from tests.fakes.tools import ANN, CACHE_TTL_S, Played, Scene, chosen, said
from tests.fakes.turn import FakeTurn, prompt
from tests.virtual_time import virtual

ORDERED = chosen(("order", {"seconds": 1}))


def ordering(*replies: Any, **options: Any) -> tuple[Scene, BoundRounds]:
    order = Played().sleeper("order", **(options or {"cacheable": False, "stateful": True}))
    scene = Scene(*replies, tools=(order, Played().sleeper("look")))
    return scene, BoundRounds(scene.rounds, ANN, CACHE_TTL_S)


def tools_of(made: Prompt) -> list[tuple[str, str]]:
    return [(each["tool"], each["status"]) for each in account_of(made.preface)["tools"]]


@virtual
async def test_an_order_of_a_try_that_failed_is_in_the_account_and_keeps_the_answer_out_of_the_cache() -> (
    None
):
    """Rows 12 and 81: an answer that has had an effect is given once, whichever try has had it."""
    _, bound = ordering(ORDERED, UpstreamError(), said("so"))
    with pytest.raises(UpstreamError):
        await bound.ask(FakeTurn(), prompt().body, ["order"])
    assert (await bound.ask(FakeTurn(), prompt().body, ["order"])).text == "so"
    made = bound.bounded(prompt())
    assert (made.store, tools_of(made)) == (False, [("order", "ok")])


@virtual
async def test_an_order_that_was_cut_off_may_have_been_placed() -> None:
    """Row 12: the step's time was up while it ran. Nobody knows, so the answer is not kept."""
    scene, bound = ordering(ORDERED, said("so"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await bound.ask(FakeTurn(), prompt().body, ["order"])
    await bound.ask(FakeTurn(), prompt().body, ["order"])
    assert not bound.bounded(prompt()).store
    scene.bench.assert_at_rest()


@virtual
async def test_a_look_of_a_try_that_failed_costs_nothing_but_its_time() -> None:
    """What has no effect bounds how long the answer holds, and no more."""
    _, bound = ordering(ORDERED, UpstreamError(), said("so"), cacheable=False, time_bound=60.0)
    with pytest.raises(UpstreamError):
        await bound.ask(FakeTurn(), prompt().body, ["order"])
    await bound.ask(FakeTurn(), prompt().body, ["order"])
    made = bound.bounded(prompt())
    assert (made.store, made.ttl_s) == (True, 60)


@virtual
async def test_tools_of_steps_stand_in_the_order_in_which_the_steps_began() -> None:
    """Rows 69 and 81: not in that of their ends, which is different each time."""
    _, bound = ordering(
        chosen(("order", {"seconds": 5})), chosen(("look", {"seconds": 1})), said("a"), said("b")
    )
    async with asyncio.TaskGroup() as group:
        for name in ("order", "look"):
            group.create_task(bound.ask(FakeTurn(), prompt().body, [name]))
    assert tools_of(bound.bounded(prompt())) == [("order", "ok"), ("look", "ok")]
