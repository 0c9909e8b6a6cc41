"""Whose call runs when: the limits, and the order in which they let somebody in."""

from __future__ import annotations

import asyncio

import pytest

from processing.tools import tool
from tests.fakes.tools import Bench, Played, call
from tests.fakes.turn import FakeTurn
from tests.fakes.turns import settle
from tests.virtual_time import virtual


@pytest.mark.parametrize(("limit", "slots"), [(4, 64), (64, 4), (4, 4), (1, 64), (64, 1), (1, 1)])
def test_the_peak_is_the_limit(limit: int, slots: int) -> None:
    """Rows 70 and 75: of 20 calls as many at a time as allowed, by the tool's limit or by that of all."""

    @virtual
    async def peak() -> None:
        played = Played()
        bench = Bench(played.sleeper(limit=limit), slots=slots)
        began = asyncio.get_running_loop().time()
        results = await bench.run(*[call("sleep", say=str(n)) for n in range(20)])
        at_once = min(limit, slots)
        assert played.peak == at_once
        assert asyncio.get_running_loop().time() - began == pytest.approx(20 / at_once)
        assert [result.text for result in results] == [str(n) for n in range(20)]
        bench.assert_at_rest()

    peak()


@virtual
async def test_a_busy_tool_never_blocks_another() -> None:
    """Its waiters hold none of the slots that all tools share."""
    played = Played()
    slow, quick = played.sleeper("slow", limit=1), played.sleeper("quick")
    bench = Bench(slow, quick, slots=2)
    clock = asyncio.get_running_loop().time
    began = clock()
    async with asyncio.TaskGroup() as group:
        group.create_task(bench.run(*[call("slow", seconds=10, say=str(n)) for n in range(9)]))
        await settle()
        await bench.run(call("quick", say="q"))
        assert clock() - began == pytest.approx(1)
    bench.assert_at_rest()


@virtual
async def test_tools_wait_in_the_order_of_their_flights() -> None:
    """Priority and aging are in that order, here as everywhere."""
    played = Played()
    bench = Bench(played.sleeper(limit=1))
    batch, urgent = FakeTurn(30), FakeTurn(1)
    async with asyncio.TaskGroup() as group:
        group.create_task(bench.run(call("sleep", say="first")))
        await settle()
        for name, turn in (("batch", batch), ("urgent", urgent)):
            group.create_task(bench.run(call("sleep", say=name), turn=turn))
        await settle()
    assert [entry for entry in played.log if entry[0] == "+"] == ["+first", "+urgent", "+batch"]


@virtual
async def test_a_request_with_many_calls_leaves_room_to_others() -> None:
    """Fairly between requests: each further call counts as a second younger, so the first does not take
    all.
    """
    played = Played()
    bench = Bench(played.sleeper(limit=1))
    async with asyncio.TaskGroup() as group:
        many = [call("sleep", say=f"many{n}") for n in range(8)]
        group.create_task(bench.run(*many, turn=FakeTurn(0)))
        await settle()
        group.create_task(bench.run(call("sleep", say="few"), turn=FakeTurn(3.5)))
    begun = [entry for entry in played.log if entry[0] == "+"]
    assert begun == ["+many0", "+many1", "+many2", "+many3", "+few", "+many4", "+many5", "+many6", "+many7"]


@virtual
async def test_waiting_for_its_rate_a_call_holds_no_slot() -> None:
    """Row 63's shape, for a tool: two per second, and meanwhile the slots are everybody's."""
    played = Played()
    bench = Bench(played.sleeper("slow", rate=2, burst=1), played.sleeper("other"), slots=1)
    clock = asyncio.get_running_loop().time
    began = clock()
    async with asyncio.TaskGroup() as group:
        slow = [call("slow", seconds=0, say=str(n)) for n in range(3)]
        group.create_task(bench.run(*slow))
        await settle()
        stats = bench.toolbox.stats()
        assert stats.slots.in_use == 0
        assert stats.tools[0].rate is not None
        assert stats.tools[0].rate.waiting == 2
        await bench.run(call("other", seconds=0.1))
        assert clock() - began == pytest.approx(0.1)
    assert clock() - began == pytest.approx(1)
    bench.assert_at_rest()


@virtual
async def test_a_token_is_not_used_up_while_a_slot_is_waited_for() -> None:
    """Else all who waited for slots would begin at once when these come free, whatever the rate."""
    played = Played()
    times: list[float] = []
    clock = asyncio.get_running_loop().time

    async def rated(n: int) -> str:
        """Notes when it runs."""
        times.append(clock() - began)
        return str(n)

    bench = Bench(tool(rated, cacheable=True, rate=1, burst=1), played.sleeper(), slots=2)
    began = clock()
    async with asyncio.TaskGroup() as group:
        busy = [call("sleep", seconds=10, say=str(n)) for n in range(2)]
        group.create_task(bench.run(*busy))
        await settle()
        group.create_task(bench.run(*[call("rated", n=n) for n in range(3)]))
    assert times == pytest.approx([10, 11, 12])
    bench.assert_at_rest()
