"""Interest that is lost and found: who comes back leaves as others do; a reader elsewhere changes little."""

from __future__ import annotations

import asyncio

from broadcast.lifecycle import Phase
from tests.fakes.claims import TIMERS, Scene
from tests.virtual_time import virtual


@virtual
async def test_whoever_came_back_can_be_lost_again() -> None:
    """Counted once when it comes and once when it goes: else nobody's answer would run for ever."""
    scene = Scene()
    late, reader = scene.join(), scene.join(attached=True)
    scene.go(Phase.LIVE)
    await asyncio.sleep(TIMERS.subscribe_s + 1)
    assert not late.interested
    late.connect()
    late.disconnect()
    await asyncio.sleep(TIMERS.grace_s + 0.1)
    assert not late.interested
    assert scene.at(Phase.LIVE)
    reader.disconnect()
    assert scene.at(Phase.CANCELLED)


@virtual
async def test_who_came_elsewhere_has_no_subscribe_deadline_here() -> None:
    """It has come: while somebody keeps the flight it lapses here, and does not expire."""
    scene = Scene()
    claim = scene.join()
    scene.go(Phase.IDLE)
    await asyncio.sleep(50)
    keeper = scene.join()
    await asyncio.sleep(10)
    claim.came_elsewhere()
    await asyncio.sleep(TIMERS.subscribe_s - 60 + 1)
    assert claim.ended is None
    assert not claim.interested
    keeper.cancel("")


@virtual
async def test_who_came_elsewhere_late_is_counted_a_little_longer() -> None:
    """The deadline of one who has not come is over with its coming, also a moment before it."""
    scene = Scene()
    claim, reader = scene.join(), scene.join(attached=True)
    scene.go(Phase.LIVE)
    await asyncio.sleep(TIMERS.subscribe_s - 1)
    claim.came_elsewhere()
    await asyncio.sleep(2)
    assert claim.interested
    await asyncio.sleep(TIMERS.grace_s)
    assert not claim.interested
    reader.cancel("")


@virtual
async def test_who_came_here_first_is_not_given_more_time_by_coming_elsewhere() -> None:
    """Its grace runs since it left here; the other process counts for itself."""
    scene = Scene()
    claim, reader = scene.join(), scene.join(attached=True)
    scene.go(Phase.LIVE)
    claim.connect()
    claim.disconnect()
    await asyncio.sleep(TIMERS.grace_s - 1)
    claim.came_elsewhere()
    await asyncio.sleep(1.1)
    assert not claim.interested
    reader.cancel("")
