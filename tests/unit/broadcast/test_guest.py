"""A guest's claim: it counts who listens here, and neither its timers nor its end are this process's."""

from __future__ import annotations

import asyncio

from broadcast.claim import Claim
from broadcast.guest import GuestClaim
from broadcast.lifecycle import Phase
from broadcast.outcome import End, Outcome
from tests.fakes.claims import TIMERS, Scene, Ticket
from tests.virtual_time import virtual


class Visit:
    """A guest on a mirror. `left` counts how often it was forgotten."""

    def __init__(self) -> None:
        self.scene = Scene()
        self.scene.broadcast.remote = True
        self.left = 0
        self.ends: list[Claim] = []
        self.claim = GuestClaim(
            Ticket("g", 0.0), self.scene.broadcast, TIMERS, on_end=self.ends.append, on_left=self._leave
        )
        self.scene.broadcast.join(self.claim)

    def _leave(self) -> None:
        self.left += 1


@virtual
async def test_asked_for_its_status_it_is_kept_for_a_moment_and_interests_nobody() -> None:
    """A look at a status must not keep an answer running."""
    visit = Visit()
    assert visit.scene.broadcast.stake == "f"
    await asyncio.sleep(TIMERS.grace_s + 0.1)
    assert (visit.left, visit.ends) == (1, [])
    assert visit.claim.ticket.id not in visit.scene.broadcast.claims


@virtual
async def test_a_stream_of_it_counts_and_its_last_end_lets_it_go_after_the_grace() -> None:
    """Connected, then interested for the grace, then forgotten, which is no end."""
    visit = Visit()
    visit.claim.connect()
    assert visit.scene.broadcast.stake == "fi+"
    await asyncio.sleep(3600)
    visit.claim.disconnect()
    assert visit.scene.broadcast.stake == "fi"
    await asyncio.sleep(TIMERS.grace_s - 0.1)
    assert visit.left == 0
    await asyncio.sleep(0.2)
    assert (visit.left, visit.ends, visit.claim.ended) == (1, [], None)


@virtual
async def test_a_reader_that_comes_back_in_time_stays() -> None:
    """A reconnect within the grace changes nothing."""
    visit = Visit()
    visit.claim.connect()
    visit.claim.disconnect()
    await asyncio.sleep(TIMERS.grace_s - 1)
    visit.claim.connect()
    await asyncio.sleep(3600)
    assert visit.left == 0
    visit.claim.disconnect()
    await asyncio.sleep(TIMERS.grace_s + 1)
    assert visit.left == 1


@virtual
async def test_no_timer_of_a_phase_runs_here() -> None:
    """They run where it was admitted: else a request would expire twice, at two moments."""
    visit = Visit()
    visit.claim.connect()
    for phase in (Phase.WAITING, Phase.IDLE, Phase.QUEUED):
        visit.scene.broadcast.show(phase)
        await asyncio.sleep(10 * TIMERS.slot_s)
    assert visit.claim.ended is None
    visit.claim.disconnect()
    await asyncio.sleep(TIMERS.grace_s + 1)


@virtual
async def test_once_it_has_ended_it_is_not_forgotten_as_well() -> None:
    """One end, and no leaving after it."""
    visit = Visit()
    visit.claim.connect()
    visit.claim.finish_alone(End(Outcome.CANCELLED, 0.0, shared=False, reason="x"))
    visit.claim.disconnect()
    await asyncio.sleep(3600)
    assert (visit.left, visit.ends) == (0, [visit.claim])
