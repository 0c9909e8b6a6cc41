"""Shared work at its end: the turn in which it ends, a clean-up that fails, a turn that has left."""

from __future__ import annotations

import asyncio

import pytest

from admission import Stage
from processing.twins import Company
from tests.fakes.invariants import assert_free
from tests.fakes.turn import FakeTurn
from tests.fakes.turns import settle
from tests.unit.processing.test_twins import Shop
from tests.virtual_time import virtual


@virtual
async def test_one_who_leaves_in_the_very_turn_of_the_end_takes_nothing_from_the_others() -> None:
    """The result is told to all who wait, and one of them has just been cancelled."""
    shop = Shop()
    members: list[asyncio.Task[int]] = []

    async def work(company: Company) -> int:
        await asyncio.sleep(1)
        # Between the end of the work and the telling of it: before that, the member would have left.
        asyncio.get_running_loop().call_soon(members[0].cancel)
        return 7

    async with asyncio.TaskGroup() as group:
        members += [group.create_task(shop.ask(work=work)) for _ in range(3)]
    assert members[0].cancelled()
    assert [member.result() for member in members[1:]] == [7, 7]
    shop.assert_empty()


def test_a_clean_up_that_fails_for_nobody_is_seen(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever wanted it has left: without a line in the log nobody would ever know."""

    @virtual
    async def cancelled() -> None:
        shop = Shop()

        async def work(company: Company) -> int:
            try:
                await asyncio.sleep(9)
            finally:
                raise ValueError("in the clean-up")

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await shop.ask(work=work)
        await settle()
        shop.assert_empty()

    cancelled()
    seen = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(seen) == 1
    assert "in the clean-up" in str(seen[0].exc_info)


@virtual
async def test_a_better_turn_is_lost_with_whoever_brought_it() -> None:
    """Through the table of what runs: asking urgently and giving up buys no place for those who stay."""
    shop, stage = Shop(), Stage("s", 1)
    holder = stage.admit(FakeTurn(0))

    async def work(company: Company) -> int:
        company.admission = admission = stage.admit(company)
        async with admission:
            return 1

    async with asyncio.TaskGroup() as group:
        group.create_task(shop.ask(turn=FakeTurn(30), work=work))
        await settle()
        other = stage.admit(FakeTurn(20))
        urgent = group.create_task(shop.ask(turn=FakeTurn(1), work=work))
        await settle()
        assert other.position == 2
        urgent.cancel()
        await settle()
        assert other.position == 1
        other.withdraw()
        holder.withdraw()
    shop.assert_empty()
    assert_free(stage)


@virtual
async def test_two_who_want_different_things_do_not_share() -> None:
    """And the end of the one ends nothing of the other, which may still be joined."""
    shop = Shop()
    async with asyncio.TaskGroup() as group:
        group.create_task(shop.ask("quick"))
        await asyncio.sleep(0.5)
        slow = [group.create_task(shop.ask("slow"))]
        await asyncio.sleep(0.9)
        assert len(shop.twins) == 1
        slow.append(group.create_task(shop.ask("slow")))
    assert [task.result() for task in slow] == [2, 2]
    assert (shop.begun, shop.twins.joins) == (2, 1)


@virtual
async def test_work_that_is_over_points_at_nothing() -> None:
    """What it waited in points back at its company: a cycle for each call would be the collector's work."""
    stage = Stage("s", 1)
    holder = stage.admit(FakeTurn(-1))
    shop, loop = Shop(), asyncio.get_running_loop()

    async def work(company: Company) -> int:
        company.admission = admission = stage.admit(company)
        async with admission:
            await asyncio.sleep(5)
        return 1

    loop.call_later(2, holder.withdraw)
    began = loop.time()
    place = shop.twins.join("k", FakeTurn(), work)
    company = place.company
    await place.result()
    assert company.admission is None
    assert (company.position, company.permit) == (0, None)
    assert company.queued_s(began, loop.time() + 60) == 2
    assert company._asked == []


def test_stubborn_work_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """The line in the log is for whoever has to find the tool that swallows its cancel."""

    @virtual
    async def cancelled() -> None:
        shop, given_up = Shop(), asyncio.Event()

        async def stubborn(company: Company) -> int:
            while not given_up.is_set():
                try:
                    await given_up.wait()
                except asyncio.CancelledError:
                    continue
            return 1

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await shop.ask(work=stubborn)
        given_up.set()
        await settle()

    cancelled()
    [line] = [record for record in caplog.records if record.name == "refrain.twins"]
    assert "work" in vars(line)["task"]
