"""What a guest's broadcast ends with is held back until its owner's word: no reader is told before it."""

from __future__ import annotations

import asyncio

import pytest

from broadcast.guest import GuestClaim
from broadcast.lifecycle import Phase
from broadcast.outcome import End, Outcome
from broadcast.subscription import Subscription
from runtime.errors import LeaderLost
from tests.fakes.claims import TIMERS, Event, Scene, Ticket
from tests.virtual_time import virtual


class Visit:
    """A guest on a mirror that streams, and one reader of it. `held` counts how often an end was."""

    def __init__(self) -> None:
        self.scene = Scene()
        self.broadcast = self.scene.broadcast
        self.broadcast.remote = True
        self.broadcast.show(Phase.LIVE)
        self.held = self.left = 0
        self.ends: list[End | None] = []
        self.claim = GuestClaim(
            Ticket("g", 0.0),
            self.broadcast,
            TIMERS,
            on_end=lambda claim: self.ends.append(claim.ended),
            on_left=self._leave,
            on_held=self._hold,
        )
        self.broadcast.join(self.claim)
        self.claim.connect()
        self.reader: Subscription[Event] = Subscription(self.broadcast.log)
        self.broadcast.readers.add(self.reader)
        self.claim.readers.add(self.reader)

    def _leave(self) -> None:
        self.left += 1

    def _hold(self) -> None:
        self.held += 1

    async def woken(self) -> bool:
        """Has its reader been woken since it was last asked?"""
        try:
            async with asyncio.timeout(0.1):
                await self.reader.wait()
        except TimeoutError:
            return False
        return True


@virtual
async def test_the_end_of_the_broadcast_is_none_of_the_request_yet() -> None:
    """It is let go once, and then its reader wakes for it."""
    visit = Visit()
    visit.broadcast.conclude(Outcome.COMPLETED, None)
    assert (visit.held, visit.claim.ended, visit.ends) == (1, None, [])
    assert await visit.woken()
    assert not await visit.woken()
    visit.claim.let_go()
    assert visit.ends == [visit.broadcast.end]
    assert visit.claim.ended is visit.broadcast.end
    assert await visit.woken()
    visit.claim.let_go()
    assert len(visit.ends) == 1


@virtual
async def test_a_cancel_that_is_told_meanwhile_is_how_it_ended() -> None:
    """Its owner has taken it: whoever reads it here must not hear of another end."""
    visit = Visit()
    visit.broadcast.conclude(Outcome.COMPLETED, None)
    await visit.woken()
    visit.claim.cancel("cancelled by the client")
    assert visit.claim.ended is not None
    assert visit.claim.ended.outcome is Outcome.CANCELLED
    assert await visit.woken()
    visit.claim.let_go()
    assert [end.outcome for end in visit.ends if end] == [Outcome.CANCELLED]


@virtual
async def test_that_nobody_wanted_it_here_is_held_too() -> None:
    """Its owner may go on with it; then its readers are let go without an end."""
    visit = Visit()
    visit.broadcast.abandon(expired=False)
    assert visit.claim.held is not None
    assert (visit.held, visit.claim.held.reason, visit.claim.held.shared) == (1, "abandoned", False)
    visit.claim.send_home()
    assert (visit.reader.released, visit.left) == (True, 1)
    visit.claim.let_go()
    assert visit.ends == []


@virtual
@pytest.mark.parametrize("shared", [False, True])
async def test_an_end_that_its_owner_has_told_is_not_held(shared: bool) -> None:
    """It is the owner's word already."""
    visit = Visit()
    visit.claim.finish_alone(End(Outcome.FAILED, 0.0, shared=shared, error=LeaderLost()))
    assert (visit.held, len(visit.ends)) == (0, 1)


@virtual
async def test_who_comes_to_an_ended_broadcast_waits_likewise() -> None:
    """A guest that joins between its flight's end and its owner's word."""
    visit = Visit()
    visit.broadcast.conclude(Outcome.COMPLETED, None)
    late = GuestClaim(
        Ticket("late", 0.0),
        visit.broadcast,
        TIMERS,
        on_end=lambda claim: visit.ends.append(claim.ended),
        on_left=lambda: None,
        on_held=visit._hold,
    )
    visit.broadcast.join(late)
    assert (visit.held, late.ended) == (2, None)
    late.let_go()
    assert late.ended is visit.broadcast.end
