"""A stage: never more inside than its capacity, nobody lost, nothing kept."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from admission import Admission, Stage
from runtime.errors import QueueFull
from tests.fakes.invariants import assert_free
from tests.fakes.turns import settle
from tests.virtual_time import virtual


@dataclass
class Guest:
    order: float = 0.0


async def hold(admission: Admission, release: asyncio.Event, inside: list[Admission]) -> None:
    async with admission:
        inside.append(admission)
        await release.wait()


@pytest.mark.parametrize("capacity", [1, 3])
def test_the_peak_inside_is_the_capacity_exactly(capacity: int) -> None:
    """Neither one more nor one less, at a limit of 1 too."""

    @virtual
    async def peak() -> None:
        stage = Stage("s", capacity)
        inside = most = 0

        async def visit() -> None:
            nonlocal inside, most
            async with stage.admit(Guest()):
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(1)
                inside -= 1

        async with asyncio.TaskGroup() as group:
            for _ in range(capacity * 3 + 1):
                group.create_task(visit())

        assert most == capacity
        assert_free(stage)

    peak()


@virtual
async def test_a_free_permit_is_taken_when_asking_not_when_entering() -> None:
    """Asking is synchronous: the next one who asks already finds it taken."""
    stage = Stage("s", 1)
    first, second = stage.admit(Guest()), stage.admit(Guest())
    assert (first.position, second.position) == (0, 1)
    assert stage.stats().in_use == 1

    async with first as permit:
        assert permit.held
        assert permit.stage == "s"
    assert not permit.held
    assert second.position == 0
    second.withdraw()
    assert_free(stage)


@virtual
async def test_the_next_in_order_gets_the_permit() -> None:
    """By order, equals by age, and whoever was let in first stays first."""
    stage = Stage("s", 1)
    holder = stage.admit(Guest())
    late, batch, early = (stage.admit(Guest(order)) for order in (2, 30, 1))
    equal = stage.admit(Guest(2))
    assert [waiting.position for waiting in (early, late, equal, batch)] == [1, 2, 3, 4]

    came = []
    for leaving in (holder, early, late, equal, batch):
        leaving.withdraw()
        came.append([one for one in (early, late, equal, batch) if one.permit and one.permit.held])
    assert came == [[early], [late], [equal], [batch], []]
    assert_free(stage)


@virtual
async def test_a_changed_order_moves_the_place_up_and_down_again() -> None:
    """No priority inversion: a place in the queue follows the best who still has an interest in it."""
    stage = Stage("s", 1)
    holder, other = stage.admit(Guest()), stage.admit(Guest(5))
    guest = Guest(30)
    moving = stage.admit(guest)
    assert moving.position == 2

    guest.order = 1
    moving.reorder()
    assert (moving.position, other.position) == (1, 2)
    guest.order = 30
    moving.reorder()
    assert (moving.position, other.position) == (2, 1)

    for admission in (moving, other, holder):
        admission.withdraw()
    guest.order = 0
    moving.reorder()
    assert_free(stage)


@virtual
async def test_a_full_queue_refuses_at_once_and_keeps_nothing() -> None:
    """The refused one takes no place, and says after how long it may come again."""
    stage = Stage("s", 1, max_waiting=1)
    async with stage.admit(Guest()):
        await asyncio.sleep(4)
    holder, waiting = stage.admit(Guest()), stage.admit(Guest())
    with pytest.raises(QueueFull) as refused:
        stage.admit(Guest(-1))

    assert refused.value.retry_after == pytest.approx(4.0)
    stats = stage.stats()
    assert (stats.in_use, stats.waiting, stats.refused) == (1, 1, {"queue_full": 1})
    waiting.withdraw()
    stage.admit(Guest()).withdraw()
    holder.withdraw()
    assert_free(stage)


@virtual
async def test_no_waiting_room_still_means_a_place_for_the_capacity() -> None:
    """`max_waiting=0`: all or nothing."""
    stage = Stage("s", 2, max_waiting=0)
    inside = [stage.admit(Guest()), stage.admit(Guest())]
    with pytest.raises(QueueFull):
        stage.admit(Guest())
    inside.pop().withdraw()
    inside.append(stage.admit(Guest()))
    for admission in inside:
        admission.withdraw()
    assert_free(stage)


@virtual
async def test_giving_back_twice_gives_back_once() -> None:
    """Whoever is unsure may withdraw again: a limit must not grow by it."""
    stage = Stage("s", 1)
    first, second = stage.admit(Guest()), stage.admit(Guest())
    async with first:
        first.withdraw()
        first.withdraw()
        assert second.position == 0
    third = stage.admit(Guest())
    assert third.position == 1
    for admission in (first, second, second, third, third):
        admission.withdraw()
    assert_free(stage)


@virtual
async def test_books_balance_at_every_moment() -> None:
    """Row 99: admitted = released + in use, whoever waits, leaves or is refused."""
    stage = Stage("s", 2, max_waiting=2)
    release, inside = asyncio.Event(), list[Admission]()
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(hold(stage.admit(Guest()), release, inside))
        gone = stage.admit(Guest())
        await settle()
        gone.withdraw()
        for _ in range(2):
            stats = stage.stats()
            assert (stats.admitted, stats.released + stats.in_use) == (2, 2)
        release.set()
    stats = stage.stats()
    assert (stats.admitted, stats.released, len(inside)) == (3, 3, 3)


@virtual
async def test_the_wait_of_each_is_measured() -> None:
    """Zero for the first, the holder's time for the next; the oldest wait is shown while it lasts."""
    waits: list[float] = []
    stage = Stage("s", 1, on_wait=waits.append)
    holder, waiting = stage.admit(Guest()), stage.admit(Guest())
    await asyncio.sleep(7)
    assert stage.stats().oldest_wait_s == 7
    holder.withdraw()
    waiting.withdraw()
    assert waits == [0, 7]
    assert stage.stats().oldest_wait_s == 0


@virtual
async def test_the_predicted_wait_follows_the_measured_holding_time() -> None:
    """Nothing measured: no claim. Then one holding time per `capacity` of those ahead."""
    stage = Stage("s", 2)
    held = [stage.admit(Guest()) for _ in range(2)]
    assert stage.predicted_wait() == 0
    await asyncio.sleep(10)
    for admission in held:
        admission.withdraw()
    assert stage.predicted_wait() == 0

    held = [stage.admit(Guest()) for _ in range(5)]
    assert stage.stats().waiting == 3
    assert [stage.predicted_wait(ahead) for ahead in (0, 1)] == [5, 10]
    assert stage.predicted_wait() == 20
    for admission in reversed(held):
        admission.withdraw()
    assert_free(stage)


@virtual
async def test_the_predicted_wait_converges_to_what_is_measured_now() -> None:
    """The mean forgets: after a slow hour a fast one is predicted as fast."""
    stage = Stage("s", 1)
    for held in [100] + [2] * 60:
        async with stage.admit(Guest()):
            await asyncio.sleep(held)
    assert stage.stats().mean_hold_s == pytest.approx(2, rel=0.1)


@virtual
async def test_a_paused_stage_grants_nothing_and_restarts_gradually() -> None:
    """No herd after a 429: 10 % of the capacity per 100 ms, and the wait is predicted honestly."""
    stage = Stage("s", 20)
    stage.pause(3)
    assert stage.predicted_wait() == 3
    asked = [stage.admit(Guest()) for _ in range(20)]
    assert stage.stats().in_use == 0
    await asyncio.sleep(3.05)
    seen = [stage.stats().in_use]
    for _ in range(3):
        await asyncio.sleep(0.1)
        seen.append(stage.stats().in_use)
    assert seen == [2, 4, 6, 8]
    await asyncio.sleep(1)
    assert stage.stats().in_use == 20
    for admission in asked:
        admission.withdraw()
    assert_free(stage)


@virtual
async def test_a_restart_at_a_capacity_of_1_lets_one_in() -> None:
    """A tenth of one is none: at least one is granted."""
    stage = Stage("s", 1)
    stage.pause(1)
    async with stage.admit(Guest()):
        assert stage.stats().in_use == 1
    assert_free(stage)


def test_its_repr_tells_its_state() -> None:
    """What a log line or a debugger shows."""
    assert repr(Stage("leaders", 3)) == "<Stage leaders [0/3 in use, 0 waiting]>"
