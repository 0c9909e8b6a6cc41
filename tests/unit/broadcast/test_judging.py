"""What follows from who is left: who is asked, who is told, and under which name it ends."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

from admission import Stage
from broadcast.broadcast import Broadcast
from broadcast.lifecycle import Phase
from broadcast.outcome import Outcome
from tests.fakes.claims import TIMERS, RecordingDriver, Scene, Ticket
from tests.virtual_time import virtual


class Asked(RecordingDriver):
    """Counts the questions, and answers them with `willing`."""

    def __init__(self, *, willing: bool = True) -> None:
        super().__init__()
        self.willing = willing
        self.questions: list[bool] = []
        self.told = 0
        self.growths = 0

    def may_abandon(self, broadcast: Broadcast[Any], *, expired: bool) -> bool:
        self.questions.append(expired)
        return self.willing

    def attended(self, broadcast: Broadcast[Any]) -> None:
        self.told += 1

    def grew(self, broadcast: Broadcast[Any]) -> None:
        self.growths += 1


def scene_of(driver: Asked, *, remote: bool = False) -> Scene:
    scene = Scene()
    scene.driver = scene.broadcast.driver = driver
    scene.broadcast.remote = remote
    return scene


@virtual
async def test_nothing_is_asked_about_one_that_has_ended() -> None:
    """A late disconnect is nobody's business: no word goes to other processes for it."""
    driver = Asked()
    scene = scene_of(driver)
    claim = scene.join(attached=True)
    scene.go(Phase.LIVE)
    scene.broadcast.complete()
    claim.disconnect()
    scene.broadcast.judge()
    assert driver.questions == []


@virtual
async def test_it_goes_on_while_it_is_being_asked_whether_anybody_is_elsewhere() -> None:
    """Only the answer ends it, as what it was: cancelled, or expired if its time had run out."""
    driver = Asked(willing=False)
    scene = scene_of(driver)
    claim = scene.join(attached=True)
    scene.go(Phase.LIVE)
    claim.cancel("")
    assert scene.at(Phase.LIVE)
    scene.broadcast.abandon(expired=False)
    assert scene.broadcast.end is not None
    assert (scene.at(Phase.CANCELLED), scene.broadcast.end.outcome) == (True, Outcome.CANCELLED)

    late = scene_of(driver)
    late.join()
    late.broadcast.abandon(expired=True)
    assert late.broadcast.end is not None
    assert (late.at(Phase.EXPIRED), late.broadcast.end.outcome) == (True, Outcome.EXPIRED)


@virtual
async def test_it_expires_only_with_the_last_of_its_requests() -> None:
    """One has run out of time, another had come and gone: together they were abandoned, not expired."""
    driver = Asked()
    scene = scene_of(driver)
    waiting = scene.join()
    await asyncio.sleep(10)
    lapsed = scene.join()
    lapsed.connect()
    lapsed.disconnect()
    await asyncio.sleep(TIMERS.queue_s - 10 + 0.1)
    assert waiting.ended is not None
    assert waiting.ended.outcome is Outcome.EXPIRED
    assert driver.questions == [False]
    assert lapsed.ended is not None
    assert (lapsed.ended.outcome, lapsed.ended.reason) == (Outcome.CANCELLED, "abandoned")


@virtual
async def test_a_mirror_is_judged_by_its_maker_who_is_told_who_is_here() -> None:
    """Whoever comes, goes or cancels; it ends here with its last request, and never by itself before."""
    driver = Asked()
    scene = scene_of(driver, remote=True)
    one, other = scene.join(), scene.join()
    told = driver.told
    one.connect()
    assert driver.told == told + 1
    one.disconnect()
    assert driver.told == told + 2
    await asyncio.sleep(TIMERS.grace_s + 0.1)
    assert driver.told == told + 3
    assert not scene.broadcast.dismissed

    other.cancel("")
    assert (scene.broadcast.dismissed, scene.broadcast.running) == (True, True)
    one.connect()
    assert not scene.broadcast.dismissed
    one.cancel("")
    one.disconnect()
    assert scene.broadcast.end is not None
    assert scene.broadcast.end.outcome is Outcome.CANCELLED
    assert driver.questions == []


@virtual
async def test_each_growth_is_told_to_the_driver() -> None:
    """Other processes hear of new events by it, batch by batch."""
    driver = Asked()
    scene = scene_of(driver)
    scene.join(attached=True)
    scene.go(Phase.LIVE)
    scene.say(b"a", b"b")
    scene.say(b"c")
    assert driver.growths == 2


@virtual
async def test_a_phase_that_is_shown_starts_the_timers_of_it() -> None:
    """A mirror's requests wait for a slot as long as those of its maker, and no longer."""
    scene = scene_of(Asked(), remote=True)
    claim = scene.join(attached=True)
    await asyncio.sleep(TIMERS.queue_s - 1)
    scene.broadcast.show(Phase.QUEUED)
    queued_at = scene.broadcast.entered_at[Phase.QUEUED]
    await asyncio.sleep(1)
    scene.broadcast.show(Phase.QUEUED)
    assert scene.broadcast.entered_at[Phase.QUEUED] == queued_at
    await asyncio.sleep(TIMERS.slot_s)
    assert claim.ended is not None
    assert claim.ended.at - queued_at == TIMERS.slot_s


@virtual
async def test_what_has_ended_is_freed_with_the_last_who_knows_it() -> None:
    """No cycle: the memory of an answer must not wait for a full collection."""
    scene = scene_of(Asked())
    scene.join(attached=True)
    scene.join(attached=True, order=2)
    scene.go(Phase.LIVE)
    scene.say(b"text")
    scene.broadcast.admission = Stage("s", 1).admit(Ticket("", 0))
    scene.broadcast.complete()
    assert scene.broadcast.admission is None
    left = weakref.ref(scene.broadcast)
    gc.disable()
    try:
        del scene
        assert left() is None
    finally:
        gc.enable()
