"""Identical calls at the same time run once, within one scope, and never across users where that matters."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from processing.tools import Caller
from tests.fakes.tools import ANN, Bench, Played, Witness, call
from tests.fakes.turns import settle
from tests.virtual_time import virtual

BOB = replace(ANN, user="bob")
ELSEWHERE = Caller("other scope", "other", "ann")
SAME_SCOPE = Caller(ANN.scope, "other", "ann")


async def both(bench: Bench, callers: tuple[Caller, Caller], *arguments: dict[str, Any]) -> None:
    async with asyncio.TaskGroup() as group:
        for caller, given in zip(callers, arguments or ({}, {}), strict=True):
            group.create_task(bench.run(call("sleep", **given), caller=caller))


@pytest.mark.parametrize(
    ("options", "callers", "runs"),
    [
        ({}, (ANN, ANN), 1),
        ({}, (ANN, BOB), 1),
        ({}, (ANN, replace(ANN, user=None)), 1),
        ({}, (ANN, SAME_SCOPE), 1),
        ({}, (ANN, ELSEWHERE), 2),
        ({"cacheable": False, "time_bound": 0.0}, (ANN, BOB), 1),
        ({"cacheable": False, "user_bound": True}, (ANN, ANN), 1),
        ({"cacheable": False, "user_bound": True}, (ANN, BOB), 2),
        ({"cacheable": False, "user_bound": True}, (ANN, SAME_SCOPE), 2),
        ({"cacheable": False, "stateful": True}, (ANN, ANN), 2),
    ],
)
def test_who_shares_a_run(options: dict[str, Any], callers: tuple[Caller, Caller], runs: int) -> None:
    """Row 12: one scope, and for a user_bound tool one user of one tenant. What has an effect is never
    shared.
    """

    @virtual
    async def shared() -> None:
        played, witness = Played(), Witness()
        bench = Bench(played.sleeper(**options), observer=witness)
        await both(bench, callers)
        assert played.begun == runs
        assert sorted(witness.ends) == [("sleep", "ok", False), ("sleep", "ok", runs == 1)]
        assert bench.toolbox.stats().shared == 2 - runs
        bench.assert_at_rest()

    shared()


@pytest.mark.parametrize(
    ("first", "second", "runs"),
    [
        ({"seconds": 1, "say": "a"}, {"say": "a", "seconds": 1.0}, 1),
        ({"say": "done"}, {}, 1),
        ({"seconds": "1"}, {}, 1),
        ({"say": "a"}, {"say": "A"}, 2),
    ],
)
def test_the_same_is_what_the_tool_takes_for_the_same(
    first: dict[str, Any], second: dict[str, Any], runs: int
) -> None:
    """Order, defaults and the way a number is written make no difference; a letter does."""

    @virtual
    async def shared() -> None:
        played = Played()
        await both(Bench(played.sleeper()), (ANN, ANN), first, second)
        assert played.begun == runs

    shared()


@virtual
async def test_two_equal_calls_of_one_reply_run_once_and_have_two_results() -> None:
    """Each call of a message needs its answer."""
    played = Played()
    results = await Bench(played.sleeper()).run(call("sleep", "a"), call("sleep", "b"))
    assert [result.text for result in results] == ["done", "done"]
    assert played.begun == 1


@virtual
async def test_a_failure_is_shared_too() -> None:
    """A timeout of a shared run is everybody's, with what it had put out."""
    played = Played()
    bench = Bench(played.sleeper(timeout_s=0.5))
    results = await bench.run(call("sleep"), call("sleep"))
    assert [result.status for result in results] == ["timed_out", "timed_out"]
    assert played.begun == 1


@virtual
async def test_a_request_that_is_given_up_takes_nothing_from_its_twin() -> None:
    """Whoever had begun it."""
    played = Played()
    bench = Bench(played.sleeper())
    async with asyncio.TaskGroup() as group:
        first = group.create_task(bench.run(call("sleep")))
        second = group.create_task(bench.run(call("sleep")))
        await settle()
        first.cancel()
    assert second.result()[0].text == "done"
    assert (played.begun, played.cleaned) == (1, 1)
    bench.assert_at_rest()


@virtual
async def test_the_end_of_the_process_is_a_failure_and_not_a_cancel() -> None:
    """A flight that still runs then hears of it in its own way."""
    bench = Bench(Played().sleeper())
    async with asyncio.TaskGroup() as group:
        task = group.create_task(bench.one("sleep"))
        await settle()
        await bench.supervisor.close()
    assert task.result().content == "[sleep failed (Draining)]"
