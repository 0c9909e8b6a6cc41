"""One round of tools: concurrent within the limits, in declared order, and every call has a result."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from processing.tools import Caller, Status, tool
from processing.tools.toolbox import MAX_CALLS
from tests.cancellation import Moment, cancel_at_every_await
from tests.fakes.tools import ANN, Bench, Played, Witness, call
from tests.fakes.turns import settle
from tests.virtual_time import virtual


@virtual
async def test_three_tools_of_a_second_take_a_second() -> None:
    """Row 69: at the same time, and in the order in which they were asked for, however they end."""
    played = Played()
    bench = Bench(played.sleeper())
    began = asyncio.get_running_loop().time()
    results = await bench.run(*[call("sleep", seconds=1 - n / 10, say=str(n)) for n in range(3)])
    assert asyncio.get_running_loop().time() - began == pytest.approx(1)
    assert [result.text for result in results] == ["0", "1", "2"]
    assert played.log == ["+0", "+1", "+2", "-2", "-1", "-0"]
    bench.assert_at_rest()


@virtual
async def test_one_failure_is_a_result_and_costs_the_others_nothing() -> None:
    """Row 70: visible, in its place, and its siblings go on."""
    played = Played()

    async def broken() -> str:
        """Breaks."""
        raise KeyError("a secret")

    witness = Witness()
    bench = Bench(played.sleeper(), tool(broken, cacheable=True), observer=witness)
    results = await bench.run(call("sleep", say="a"), call("broken"), call("nothing"), call("sleep", say="b"))
    assert [result.status for result in results] == ["ok", "failed", "refused", "ok"]
    assert results[1].content == "[broken failed (KeyError)]"
    assert results[2].content == "[nothing was not run: there is no such tool; there are sleep, broken]"
    assert sorted(witness.ends) == [
        ("broken", "failed", False),
        ("sleep", "ok", False),
        ("sleep", "ok", False),
        ("unknown", "refused", False),
    ]
    assert witness.begun == ["sleep", "broken", "sleep"]
    bench.assert_at_rest()


@virtual
async def test_stateful_calls_of_a_request_run_one_after_the_other() -> None:
    """In the order in which they were asked for, beside the read-only ones, and no two at a time."""
    played = Played()
    write = played.sleeper("write", cacheable=False, stateful=True)
    bench = Bench(write, played.sleeper("read"))
    began = asyncio.get_running_loop().time()
    results = await bench.run(
        call("write", seconds=2, say="w1"),
        call("read", seconds=3, say="r"),
        call("write", seconds=1, say="w2"),
    )
    assert asyncio.get_running_loop().time() - began == pytest.approx(3)
    assert [result.text for result in results] == ["w1", "r", "w2"]
    assert [entry for entry in played.log if "w" in entry] == ["+w1", "-w1", "+w2", "-w2"]
    bench.assert_at_rest()


@virtual
async def test_stateful_calls_of_two_requests_do_not_wait_for_each_other() -> None:
    """The order is a request's own: another's is not its business."""
    played = Played()
    bench = Bench(played.sleeper("write", cacheable=False, stateful=True))
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(bench.run(call("write", say="same")))
    assert (played.peak, played.begun) == (2, 2)


@virtual
async def test_more_calls_than_anybody_needs_are_not_run() -> None:
    """A model that runs wild must not run the tools too. Each call has an answer all the same."""
    played = Played()
    bench = Bench(played.sleeper(limit=1000), slots=1000)
    results = await bench.run(*[call("sleep", say=str(n)) for n in range(MAX_CALLS + 2)])
    assert played.begun == MAX_CALLS
    assert [result.status for result in results[-3:]] == [Status.OK, Status.REFUSED, Status.REFUSED]


@virtual
async def test_a_round_without_calls_is_nothing() -> None:
    """No call, no result."""
    assert await Bench(Played().sleeper()).run() == []


def test_a_name_is_taken_once() -> None:
    """Which of the two would the model have meant?"""
    played = Played()
    with pytest.raises(ValueError, match="two tools with the name 'sleep'"):
        Bench(played.sleeper(), played.sleeper())


@virtual
async def test_what_is_for_a_user_is_not_offered_to_nobody() -> None:
    """Row 12: without a user there is nobody whose private answer it could be."""
    played = Played()
    bench = Bench(played.sleeper("mine", cacheable=False, user_bound=True), played.sleeper("all"))
    nobody = replace(ANN, user=None)
    assert [tool.name for tool in bench.toolbox.for_caller(ANN)] == ["mine", "all"]
    assert [tool.name for tool in bench.toolbox.for_caller(nobody)] == ["all"]
    assert [tool.name for tool in bench.toolbox.for_caller(ANN, ["mine"])] == ["mine"]
    assert (await bench.run(call("mine"), caller=nobody))[0].status is Status.REFUSED
    assert bench.toolbox.user_bound
    assert not Bench(played.sleeper()).toolbox.user_bound


@virtual
async def test_a_function_may_know_for_whom_it_runs() -> None:
    """The model neither sees that parameter nor can fill it."""

    async def letters(who: Caller, limit: int = 3) -> str:
        """Reads letters."""
        return f"{limit} letters of {who.user}"

    bench = Bench(tool(letters, user_bound=True))
    assert bench.toolbox["letters"].offered["function"]["parameters"]["properties"].keys() == {"limit"}
    assert (await bench.one("letters")).text == "3 letters of ann"
    assert (await bench.one("letters", who="bob")).status is Status.REFUSED


@virtual
async def test_the_fingerprint_changes_with_what_the_model_is_told() -> None:
    """It is part of the sharing key: an edit must not serve old answers."""
    played = Played()
    same = [Bench(played.sleeper()).toolbox.fingerprint for _ in range(2)]
    assert same[0] == same[1]
    others = {
        Bench(played.sleeper(**options)).toolbox.fingerprint
        for options in ({"name": "other"}, {"cacheable": False, "time_bound": 5.0}, {"timeout_s": 5.0})
    }
    assert len(others - {same[0]}) == 3


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("moment", ["waiting", "granted"])
@pytest.mark.parametrize("options", [{}, {"rate": 1.0}, {"cacheable": False, "stateful": True}])
def test_a_cancel_loses_nothing(options: dict[str, Any], moment: Moment, again: bool) -> None:
    """Row 76: waiting for a token, for the tool's slot, for one of all, running and cleaning up."""

    @virtual
    async def cancelled_everywhere() -> None:
        played = Played()
        bench = Bench(played.sleeper(limit=1, **options), played.sleeper("other"), slots=1)

        async def several() -> None:
            await bench.run(call("sleep", say="a"), call("other"), call("sleep", say="b"))

        async def check(n: int) -> None:
            await asyncio.sleep(30)
            bench.assert_at_rest()
            assert played.begun == played.cleaned

        assert await cancel_at_every_await(several, check, moment=moment, again=again) >= 1

    cancelled_everywhere()


@virtual
async def test_a_cancel_while_waiting_ends_at_once_and_takes_no_slot_later() -> None:
    """Row 76, in each of the three queues, without any time passing."""
    for options, slots in (({"limit": 1}, 9), ({}, 1), ({"rate": 0.01}, 9)):
        played = Played()
        bench = Bench(played.sleeper(**options), slots=slots)
        async with asyncio.TaskGroup() as group:
            group.create_task(bench.run(call("sleep", seconds=50, say="first")))
            await settle()
            waiting = group.create_task(bench.run(call("sleep", say="second")))
            await settle()
            now = asyncio.get_running_loop().time()
            waiting.cancel()
            await asyncio.wait({waiting})
            assert asyncio.get_running_loop().time() == now
            assert waiting.cancelled()
        assert played.begun == 1
        await asyncio.sleep(300)
        bench.assert_at_rest()
