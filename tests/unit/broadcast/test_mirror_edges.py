"""What a mirror believes and what not: older epochs, gaps, ends without all of the text, dead makers."""

from __future__ import annotations

import asyncio

import pytest

from broadcast.lifecycle import Phase
from broadcast.outcome import Outcome
from broadcast.owner import payload_of
from broadcast.shown import say
from cache.flights import MAX_ENTRIES
from cache.views import Ending
from runtime.errors import LeaderLost, QueueFull
from tests.fakes.claims import Scene
from tests.fakes.flights import batch, pulse, view
from tests.fakes.mirrors import MirrorScene
from tests.fakes.turns import settle, turns
from tests.virtual_time import virtual

COMPLETED = Ending("completed", b"{}")
LEASE_S = 15.0


def now() -> float:
    return asyncio.get_running_loop().time()


def outcome_of(scene: MirrorScene) -> Outcome | None:
    return scene.broadcast.end.outcome if scene.broadcast.end is not None else None


# -- epochs -----------------------------------------------------------------------------------
@virtual
async def test_an_older_epoch_is_followed_only_by_who_has_nothing_to_lose() -> None:
    """Redis has gone back: with text here it has forgotten ours; without, what lives there will do."""
    scene = MirrorScene()
    scene.mirror.saw(view(batch(1, "a"), epoch=4, events=1))
    assert (scene.texts, scene.broadcast.log.epoch, scene.broadcast.remote) == (["a"], 4, True)
    assert scene.mirror.orphan_since is None

    for other, older in ((scene, view(epoch=3)), (MirrorScene(), view(epoch=4, state="completed"))):
        epoch, texts = other.broadcast.log.epoch, other.texts
        begun = now()
        other.mirror.saw(older)
        await asyncio.sleep(1)
        other.mirror.saw(older)
        assert (other.broadcast.log.epoch, other.texts) == (epoch, texts)
        assert other.mirror.orphan_since == begun
        assert other.broadcast.running


@virtual
async def test_a_new_epoch_is_still_made_elsewhere() -> None:
    """Its readers wait for the other's text, and nothing is asked of the model here."""
    scene = MirrorScene()
    scene.mirror.saw(view(epoch=9, owner="other"))
    assert scene.broadcast.remote
    assert not scene.mirror.over


# -- phases -----------------------------------------------------------------------------------
@virtual
async def test_what_its_maker_says_is_shown_while_it_lives() -> None:
    """Of an end the log tells; `heard` is what a status waits for, so it is not set by silence."""
    maker, scene = Scene(), MirrorScene()
    maker.join(attached=True)
    maker.go(Phase.PREPARING)
    said = say(maker.broadcast, None, now())
    scene.mirror.saw(view())
    scene.mirror.saw(view(COMPLETED, state="completed", phase=said))
    assert scene.mirror.heard is False
    live = MirrorScene()
    live.mirror.saw(view(phase=said))
    assert live.mirror.heard is True
    assert live.broadcast.phase is Phase.PREPARING
    maker.broadcast.claims["c1"].cancel("test")


# -- gaps -------------------------------------------------------------------------------------
@virtual
async def test_a_gap_of_one_is_asked_for_once_a_look() -> None:
    """Its maker is told who follows, and writes it again; nothing behind it is shown before that."""
    scene = MirrorScene()
    scene.mirror.saw(view(batch(2, "b"), batch(3, "c"), events=3))
    await settle()
    assert scene.texts == []
    assert scene.flights.named("stake") == [("key", "f")]
    assert scene.broadcast.running


@virtual
async def test_a_gap_that_nobody_fills_is_an_honest_failure() -> None:
    """After two leases, which its maker has had for it; then its leader is not asked for any more."""
    scene = MirrorScene()
    gap = view(batch(2, "b"), events=2)
    scene.mirror.saw(gap)
    await asyncio.sleep(LEASE_S)
    scene.mirror.saw(gap)
    await asyncio.sleep(LEASE_S)
    scene.mirror.saw(gap)
    assert scene.broadcast.running
    await asyncio.sleep(0.01)
    scene.mirror.saw(view(batch(2, "b"), events=2, left_ms=-1))
    assert outcome_of(scene) is Outcome.FAILED
    assert scene.gone == 0
    await settle()


@virtual
async def test_a_gap_that_was_filled_is_forgotten() -> None:
    """Another one, long after, gets its own time."""
    scene = MirrorScene()
    scene.mirror.saw(view(batch(2, "b"), events=2))
    scene.mirror.saw(view(batch(1, "a"), events=1))
    await asyncio.sleep(3 * LEASE_S)
    scene.mirror.saw(view(batch(3, "c"), events=3))
    await settle()
    assert scene.broadcast.running
    assert len(scene.flights.named("stake")) == 2


@virtual
async def test_a_gap_in_what_has_ended_stays() -> None:
    """Nobody writes it again: the end is told at once."""
    scene = MirrorScene()
    scene.mirror.saw(view(batch(2, "b"), COMPLETED, state="completed", events=2))
    assert outcome_of(scene) is Outcome.FAILED
    await settle()
    assert scene.flights.calls == []


# -- ends -------------------------------------------------------------------------------------
@virtual
async def test_only_a_completed_answer_has_to_be_whole() -> None:
    """Part of it must not pass for all of it; a failure is told as its maker did, with any text."""
    scene = MirrorScene()
    scene.mirror.saw(view(batch(1, "a"), COMPLETED, state="completed", events=2))
    assert outcome_of(scene) is Outcome.FAILED
    scene = MirrorScene()
    failed = Ending("failed", payload_of(QueueFull("full")))
    scene.mirror.saw(view(batch(1, "a"), failed, state="failed", events=2))
    assert scene.broadcast.end is not None
    assert isinstance(scene.broadcast.end.error, Exception)
    assert scene.broadcast.end.error.code == "queue_full"


@pytest.mark.parametrize(("how", "joined"), [("failed", True), ("completed", True), ("cancelled", False)])
def test_only_an_end_for_want_of_interest_is_contradicted(how: str, joined: bool) -> None:
    """And only by somebody who is interested: any other end is one."""

    @virtual
    async def ends() -> None:
        scene = MirrorScene()
        scene.mirror.body = {"q": 1}
        if joined:
            scene.join()
        scene.mirror.saw(view(Ending(how, b"{}"), state=how))
        assert scene.wanted == 0
        assert outcome_of(scene) == how

    ends()


@virtual
async def test_the_maker_of_what_has_ended_may_be_dead() -> None:
    """Its log is read to the end, in as many pieces as it takes; there is nothing to take over."""
    scene = MirrorScene()
    scene.dead.add("maker")
    many = [batch(n, f"{n}") for n in range(1, MAX_ENTRIES + 1)]
    scene.mirror.saw(view(*many, state="completed", events=MAX_ENTRIES + 1))
    assert scene.broadcast.running
    assert scene.gone == 0


# -- what costs a call ------------------------------------------------------------------------
@pytest.mark.parametrize("led", [True, False])
def test_what_is_over_is_not_looked_at(led: bool) -> None:
    """It has ended, or is made here by now: no pull, no stake, and no beat that says otherwise."""

    @virtual
    async def quiet() -> None:
        scene = MirrorScene()
        scene.join()
        if led:
            scene.broadcast.remote = False
        else:
            scene.broadcast.fail(LeaderLost())
        assert scene.mirror.over is True
        scene.mirror.pull()
        scene.mirror.attended()
        assert scene.mirror.beaten(pulse(events=9)) is False
        assert scene.tasks == set()

    quiet()


@virtual
async def test_a_burst_of_hints_starts_one_task() -> None:
    """Each token of a fast answer is one: what comes meanwhile is pulled after that, by the same task."""
    scene = MirrorScene()
    for _ in range(5):
        scene.mirror.pull()
    await turns(1)
    scene.mirror.pull()
    assert len(scene.tasks) == 1
    await settle()
    assert len(scene.flights.named("pull")) == 2


@virtual
async def test_a_pull_whose_mirror_ended_meanwhile_is_the_last() -> None:
    """Whatever hints came in between, and whatever it brings."""
    scene = MirrorScene()
    scene.flights.replies["pull"] = [view(batch(1, "a"), epoch=9)]
    scene.mirror.pull()
    await turns(1)
    scene.mirror.pull()
    scene.broadcast.remote = False
    await settle()
    assert len(scene.flights.named("pull")) == 1
    assert scene.texts == []


@pytest.mark.parametrize(("left_ms", "pulls"), [(0, 0), (-1, 1)])
def test_a_lease_has_lapsed_when_nothing_is_left_of_it_and_more(left_ms: int, pulls: int) -> None:
    """Redis counts in whole milliseconds, and is asked again only for what has lapsed there."""

    @virtual
    async def beaten() -> None:
        scene = MirrorScene()
        scene.mirror.saw(view())
        scene.mirror.beaten(pulse(left_ms=left_ms))
        await settle()
        assert len(scene.flights.named("pull")) == pulls

    beaten()


@virtual
async def test_before_anything_was_seen_a_beat_makes_it_look() -> None:
    """Nothing has been published to it yet, whatever its maker has published."""
    scene = MirrorScene()
    assert (scene.mirror.maker, scene.mirror.heard) == ("", False)
    scene.mirror.beaten(pulse())
    await settle()
    assert len(scene.flights.named("pull")) == 1


@virtual
async def test_a_beat_that_finds_it_forgotten_is_no_progress() -> None:
    """Else a Redis that has lost its memory would be taken for one whose pushes are lost."""
    scene = MirrorScene()
    scene.mirror.saw(view())
    assert scene.mirror.beaten(pulse(epoch=0)) is False
    await settle()
    assert scene.mirror.beaten(pulse(events=0)) is False


@virtual
async def test_progress_that_no_hint_told_is_told_to_the_beat() -> None:
    """Two beats of it and the inbox is made anew; a pull that is under way came from a hint: no progress."""
    scene = MirrorScene()
    scene.mirror.saw(view())
    assert scene.mirror.beaten(pulse(events=1)) is True
    assert scene.mirror.beaten(pulse(events=1)) is False
    await settle()
