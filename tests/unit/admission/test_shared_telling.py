"""A shared stage and those who count for it: what is told at once, what at a beat, and what is known then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from admission.shared import SharedStage
from runtime.supervisor import Supervisor
from tests.fakes.leases import BEAT_S, LEASE_S, Bank, FakeLeases, Guest, granted, hall
from tests.virtual_time import virtual

#: Far less than a beat: what is told at once is known by then.
SOON_S = BEAT_S / 10


@asynccontextmanager
async def lone(
    capacity: int, *, lease_s: float = LEASE_S, processes: int = 1
) -> AsyncIterator[tuple[SharedStage, FakeLeases]]:
    """One stage, with a lease and a number of processes of the test's choice."""
    supervisor, leases = Supervisor(), FakeLeases(Bank(capacity))
    stage = SharedStage(
        "s", capacity, leases, lease_s=lease_s, processes=lambda: processes, supervisor=supervisor
    )
    supervisor.own("limits", stage.run())
    try:
        yield stage, leases
    finally:
        await supervisor.close()


@virtual
async def test_an_asking_is_told_at_once() -> None:
    """The second one too, between two beats: a free slot costs a round trip and not a second."""
    async with hall(2) as house:
        stage = house.stages[0]
        first = stage.admit(Guest())
        await granted(first)
        await asyncio.sleep(BEAT_S / 3)
        second = stage.admit(Guest())
        await asyncio.sleep(SOON_S)
        assert second.permit is not None
        for one in (first, second):
            one.withdraw()
        await house.rest()


@virtual
async def test_a_release_is_told_at_once_and_only_once() -> None:
    """Whoever waits elsewhere gets the slot now; giving back twice says nothing twice."""
    async with hall(1, 2) as house:
        holder = house.stages[0].admit(Guest())
        await granted(holder)
        waiting = house.stages[1].admit(Guest())
        await asyncio.sleep(2.3 * BEAT_S)
        holder.withdraw()
        await asyncio.sleep(SOON_S)
        assert waiting.permit is not None
        told = [released for released, *_ in house.leases[0].synced if released]
        holder.withdraw()
        await asyncio.sleep(2 * BEAT_S)
        assert [released for released, *_ in house.leases[0].synced if released] == told
        waiting.withdraw()
        await house.rest()


@virtual
async def test_a_changed_order_is_told_at_once() -> None:
    """The slot that is free a moment later goes to the one who is first by then."""
    async with hall(1, 2) as house:
        now = asyncio.get_running_loop().time()
        holder = house.stages[1].admit(Guest(now))
        await granted(holder)
        guest, rival = Guest(now + 30), Guest(now + 10)
        moved, stays = house.stages[0].admit(guest), house.stages[1].admit(rival)
        await asyncio.sleep(2.3 * BEAT_S)
        guest.order = now
        moved.reorder()
        await asyncio.sleep(SOON_S)
        holder.withdraw()
        await asyncio.sleep(SOON_S)
        assert (moved.permit is not None, stays.permit is not None) == (True, False)
        for one in (moved, stays):
            one.withdraw()
        await house.rest()


@pytest.mark.parametrize(("lease_s", "beat_s"), [(4.0, 0.5), (8.0, 1.0), (80.0, 1.0)])
def test_what_is_held_is_said_again_eight_times_per_lease_and_each_second_at_least(
    lease_s: float, beat_s: float
) -> None:
    """A lease must outlive some lost beats, and a long lease must not slow down what a beat repairs."""

    @virtual
    async def said_again() -> None:
        async with lone(1, lease_s=lease_s) as (stage, leases):
            holder = stage.admit(Guest())
            await granted(holder)
            await asyncio.sleep(3 * beat_s)
            before = len(leases.synced)
            await asyncio.sleep(10 * beat_s)
            # Each beat is a wait and two ways of a round trip.
            assert len(leases.synced) - before in (9, 10)
            assert all(held == [0] for _, held, *_ in leases.synced[before:])
            holder.withdraw()
            await asyncio.sleep(2 * beat_s)

    said_again()


@virtual
async def test_who_neither_holds_nor_waits_says_nothing() -> None:
    """An idle process costs the store no beat."""
    async with lone(1) as (stage, leases):
        await asyncio.sleep(5 * BEAT_S)
        assert leases.synced == []
        holder = stage.admit(Guest())
        await granted(holder)
        assert [restart for *_, restart in leases.synced] == [False], "it has not been away"
        holder.withdraw()
        await asyncio.sleep(BEAT_S / 2)
        told = len(leases.synced)
        await asyncio.sleep(5 * BEAT_S)
        assert len(leases.synced) == told


@virtual
async def test_the_load_is_that_of_all_processes_for_whoever_is_told_it() -> None:
    """Told at each beat to those who hold or wait; without a link each knows its own alone."""
    async with hall(3, 2) as house:
        here, there = house.stages
        assert here.load() == 0
        theirs = [there.admit(Guest()) for _ in range(2)]
        await granted(*theirs)
        assert (here.load(), there.load()) == (0, 2)

        mine = here.admit(Guest())
        assert here.load() == 0, "nobody has said anything yet"
        await granted(mine)
        await asyncio.sleep(2 * BEAT_S)
        assert (here.load(), there.load()) == (3, 3)
        waiting = here.admit(Guest())
        mine.withdraw()
        await asyncio.sleep(2 * BEAT_S)
        assert (here.load(), here.stats().in_use) == (3, 1)

        house.leases[0].turn(up=False)
        assert here.load() == here.stats().in_use == 1
        house.leases[0].turn(up=True)
        for one in (*theirs, waiting):
            one.withdraw()
        assert here.load() == 0, "who has left asks nobody"
        await house.rest()


@virtual
async def test_who_only_waits_knows_the_load_of_the_others() -> None:
    """A full stage is shown as full by a process that got nothing of it."""
    async with hall(2, 2) as house:
        here, there = house.stages
        theirs = [there.admit(Guest()) for _ in range(2)]
        await granted(*theirs)
        waiting = here.admit(Guest())
        await asyncio.sleep(2 * BEAT_S)
        assert (here.load(), here.stats().in_use) == (2, 0)
        for one in (*theirs, waiting):
            one.withdraw()
        await house.rest()


@virtual
async def test_a_process_that_knows_of_no_other_takes_all() -> None:
    """Alone and told of nobody, not even of itself: the whole capacity, and exact predictions."""
    async with lone(2, processes=0) as (stage, leases):
        leases.turn(up=False)
        for one in [stage.admit(Guest()) for _ in range(2)]:
            assert one.permit is not None
            await asyncio.sleep(5)
            one.withdraw()
        held = [stage.admit(Guest()) for _ in range(3)]
        mean = stage.stats().mean_hold_s
        assert mean is not None
        assert stage.predicted_wait() == pytest.approx(2 * mean / 2)
        for one in held:
            one.withdraw()
