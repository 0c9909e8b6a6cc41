"""A stage whose permits several processes share: the cap, the order, the way back, and cancels."""

from __future__ import annotations

import asyncio
import random

import pytest

from admission import Admission
from admission.shared import SharedStage
from tests.cancellation import Moment, cancel_at_every_await
from tests.fakes.leases import BEAT_S, Guest, granted, hall
from tests.virtual_time import virtual


@virtual
async def test_the_cap_holds_with_pushes_lost_and_every_visitor_gets_in() -> None:
    """Three processes, 90 visits, a third of the pushes lost, some replies too: five inside at most."""
    luck, inside, most, visits = random.Random(7), 0, 0, 0
    async with hall(5, 3) as all_of_them:

        async def visit(stage: SharedStage, number: int) -> None:
            nonlocal inside, most, visits
            await asyncio.sleep(luck.random() * 5)
            async with stage.admit(Guest(order=number)):
                inside, visits = inside + 1, visits + 1
                most = max(most, inside)
                await asyncio.sleep(luck.random())
                inside -= 1

        async def trouble() -> None:
            for _ in range(100):
                await asyncio.sleep(0.2)
                for one in all_of_them.leases:
                    one.deaf = luck.random() < 0.3
                    one.loses_reply = int(luck.random() < 0.1)

        async with asyncio.TaskGroup() as group:
            group.create_task(trouble())
            for number in range(90):
                group.create_task(visit(all_of_them.stages[number % 3], number))
        assert (most, visits) == (5, 90)
        assert all_of_them.bank.most == 5
        await all_of_them.rest()


@virtual
async def test_the_first_in_order_is_let_in_first_wherever_it_asked() -> None:
    """One queue for all, by order and not by process."""
    async with hall(1, 3) as house:
        now = asyncio.get_running_loop().time()
        holder = house.stages[0].admit(Guest(now))
        await granted(holder)
        late, first, second = (
            house.stages[number].admit(Guest(now + order)) for number, order in ((0, 3.0), (1, 1.0), (2, 2.0))
        )
        await asyncio.sleep(2 * BEAT_S)
        assert [one.position for one in (first, second, late)] == [1, 2, 3]
        entered: list[str] = []

        async def visit(name: str, admission: Admission) -> None:
            async with admission:
                entered.append(name)

        async with asyncio.TaskGroup() as group:
            for name, admission in (("late", late), ("first", first), ("second", second)):
                group.create_task(visit(name, admission))
            await asyncio.sleep(0)
            holder.withdraw()
        assert entered == ["first", "second", "late"]
        await house.rest()


@virtual
async def test_a_changed_order_is_told() -> None:
    """An interactive twin joins a batch flight: its place in the shared queue follows."""
    async with hall(1, 2) as house:
        now = asyncio.get_running_loop().time()
        holder = house.stages[0].admit(Guest(now))
        await granted(holder)
        batch, other = Guest(now + 30), Guest(now + 10)
        moved, stays = house.stages[0].admit(batch), house.stages[1].admit(other)
        await asyncio.sleep(2 * BEAT_S)
        assert (stays.position, moved.position) == (1, 2)
        batch.order = now
        moved.reorder()
        await asyncio.sleep(2 * BEAT_S)
        assert moved.position == 1
        holder.withdraw()
        await granted(moved)
        assert stays.permit is None
        moved.withdraw()
        stays.withdraw()
        await house.rest()


@virtual
async def test_a_position_is_shown_once_it_is_known_and_only_falls() -> None:
    """Row 62: before Redis has said a place, none is shown; a newcomer before it does not raise it."""
    async with hall(1, 2) as house:
        now = asyncio.get_running_loop().time()
        holder = house.stages[1].admit(Guest(now))
        await granted(holder)
        waiting = house.stages[0].admit(Guest(now + 20))
        assert waiting.position == 0
        await asyncio.sleep(2 * BEAT_S)
        assert waiting.position == 1
        before = house.stages[1].admit(Guest(now))
        await asyncio.sleep(2 * BEAT_S)
        assert waiting.position == 1
        for one in (before, waiting, holder):
            one.withdraw()
        await house.rest()


@virtual
async def test_a_lost_push_costs_a_beat() -> None:
    """Granted in the pool, never heard: the next beat tells."""
    async with hall(1, 2) as house:
        house.leases[1].deaf = True
        holder = house.stages[0].admit(Guest())
        await granted(holder)
        waiting = house.stages[1].admit(Guest())
        await asyncio.sleep(2 * BEAT_S)
        holder.withdraw()
        asked_at = asyncio.get_running_loop().time()
        await granted(waiting)
        assert asyncio.get_running_loop().time() - asked_at <= BEAT_S + 0.1
        waiting.withdraw()
        await house.rest()


@virtual
async def test_a_grant_for_one_who_has_left_goes_on_to_the_next() -> None:
    """It left while its grant was on the way: the permit is given back by the next telling."""
    async with hall(1, 2) as house:
        holder = house.stages[0].admit(Guest())
        await granted(holder)
        leaver = house.stages[0].admit(Guest(1.0))
        stayer = house.stages[1].admit(Guest(2.0))
        await asyncio.sleep(2 * BEAT_S)
        holder.withdraw()
        await asyncio.sleep(0.001)
        leaver.withdraw()
        await granted(stayer)
        assert house.stages[0].stats().admitted == house.stages[0].stats().released
        stayer.withdraw()
        await house.rest()


@virtual
async def test_a_dead_process_holds_nobody_up() -> None:
    """Row 99: what it held and waited for goes to the living."""
    async with hall(2, 2) as house:
        first, second = house.stages[0].admit(Guest()), house.stages[0].admit(Guest())
        await granted(first, second)
        waiting = house.stages[1].admit(Guest())
        await asyncio.sleep(BEAT_S)
        assert waiting.permit is None
        house.bank.bury(0)
        await granted(waiting)
        assert house.stages[1].stats().in_use == 1
        waiting.withdraw()
        for one in (first, second):
            one.withdraw()
        await house.rest()


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("moment", ["waiting", "granted"])
def test_a_cancel_at_any_await_loses_no_slot(moment: Moment, again: bool) -> None:
    """Row 76: while it waits, in the turn of its grant, inside, twice in a row; nothing stays in the pool."""

    @virtual
    async def cancelled_everywhere() -> None:
        async with hall(1, 2) as house:

            async def visit() -> None:
                holder = house.stages[1].admit(Guest())
                asyncio.get_running_loop().call_later(1.5, holder.withdraw)
                await asyncio.sleep(0.5)
                async with house.stages[0].admit(Guest(1.0)) as permit:
                    assert permit.held
                    await asyncio.sleep(0)
                    await asyncio.sleep(0.3)

            async def all_back(n: int) -> None:
                await house.rest()

            suspensions = await cancel_at_every_await(visit, all_back, moment=moment, again=again)
            assert suspensions == 4

    cancelled_everywhere()
