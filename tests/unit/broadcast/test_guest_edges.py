"""A guest that leaves: when, how it is told, and what it leaves behind."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from broadcast.guest import GuestClaim
from broadcast.log import Log
from broadcast.outcome import End, Outcome
from broadcast.subscription import Subscription
from tests.fakes.claims import TIMERS, Scene, Ticket
from tests.fakes.turns import settle
from tests.unit.broadcast.test_guest import Visit
from tests.virtual_time import virtual
from upstream.chunk import Chunk


@pytest.mark.parametrize(("grace_s", "kept_s"), [(0.0, 1.0), (0.5, 1.0), (5.0, 5.0)])
def test_a_status_is_kept_for_the_grace_and_for_a_second_at_least(grace_s: float, kept_s: float) -> None:
    """Who polls each second is not registered anew each time."""

    @virtual
    async def kept() -> None:
        scene, left = Scene(), []
        scene.broadcast.remote = True
        guest = GuestClaim(
            Ticket("g", 0.0),
            scene.broadcast,
            replace(TIMERS, grace_s=grace_s),
            on_end=lambda claim: None,
            on_left=lambda: left.append(asyncio.get_running_loop().time()),
        )
        scene.broadcast.join(guest)
        begun = asyncio.get_running_loop().time()
        await asyncio.sleep(10)
        assert left == [pytest.approx(begun + kept_s)]

    kept()


@virtual
async def test_the_last_guest_takes_the_mirror_with_it() -> None:
    """Nothing is left that could be read: its maker need not know of us any more."""
    visit = Visit()
    other = Ticket("other", 0.0)
    stays = GuestClaim(other, visit.scene.broadcast, TIMERS, on_end=visit.ends.append, on_left=visit._leave)
    stays.connect()
    visit.scene.broadcast.join(stays)
    await asyncio.sleep(TIMERS.grace_s + 1)
    assert visit.scene.broadcast.running
    assert list(visit.scene.broadcast.claims) == ["other"]
    stays.disconnect()
    assert visit.scene.broadcast.running
    await asyncio.sleep(TIMERS.grace_s + 1)
    assert not visit.scene.broadcast.running
    assert (visit.left, visit.ends) == (2, [])


@virtual
async def test_a_guest_that_lost_interest_is_interested_no_more() -> None:
    """What is told of the mirror then is what is true: it follows, and wants nothing."""
    visit = Visit()
    stays = GuestClaim(
        Ticket("other", 0.0), visit.scene.broadcast, TIMERS, on_end=visit.ends.append, on_left=visit._leave
    )
    visit.scene.broadcast.join(stays)
    stays.connect()
    visit.claim.connect()
    visit.claim.disconnect()
    stays.disconnect()
    await asyncio.sleep(TIMERS.grace_s + 1)
    assert visit.scene.broadcast.stake == "f"
    assert (visit.claim.interested, stays.interested) == (False, False)


@virtual
async def test_a_guest_sent_home_reads_on_elsewhere() -> None:
    """Its streams are let go without an end, it is told once, and it counts for nothing here."""
    visit = Visit()
    reader: Subscription[Chunk] = Subscription(Log(1))
    await reader.wait()
    visit.claim.readers.add(reader)
    visit.claim.connect()
    waiting = asyncio.get_running_loop().create_task(reader.wait())
    await settle()
    visit.claim.send_home()
    await settle()
    assert reader.released
    assert waiting.done()
    assert (visit.left, visit.ends, visit.claim.ended) == (1, [], None)
    assert visit.scene.broadcast.claims == {}
    assert visit.scene.broadcast.stake == "f"
    visit.claim.send_home()
    visit.claim.disconnect()
    await asyncio.sleep(TIMERS.grace_s + 1)
    assert visit.left == 1


@virtual
async def test_after_its_end_there_is_nobody_to_send_home() -> None:
    """It has been told of its end; that it has left as well is said by nobody."""
    visit = Visit()
    visit.claim.connect()
    visit.claim.finish_alone(End(Outcome.COMPLETED, 0.0, shared=True))
    visit.claim.send_home()
    visit.claim._lose_interest()
    assert (visit.left, visit.ends) == (0, [visit.claim])


@virtual
async def test_a_guest_who_is_there_is_not_forgotten() -> None:
    """A moment that was set for its status alone may come while a stream of it is open."""
    visit = Visit()
    visit.claim.connect()
    visit.claim._lose_interest()
    assert visit.left == 0
    assert "g" in visit.scene.broadcast.claims
    visit.claim.disconnect()
    await asyncio.sleep(TIMERS.grace_s + 1)


@virtual
async def test_a_guest_whose_broadcast_is_given_up_was_here() -> None:
    """Abandoned, and not one that never came: the stream was opened in this process."""
    visit = Visit()
    visit.claim.connect()
    visit.scene.broadcast.remote = False
    visit.scene.broadcast.abandon(expired=False)
    assert visit.claim.ended is not None
    assert (visit.claim.ended.outcome, visit.claim.ended.reason) == (Outcome.CANCELLED, "abandoned")
    asked = Visit()
    asked.scene.broadcast.abandon(expired=False)
    assert asked.claim.ended is not None
    assert asked.claim.ended.reason == "abandoned"
