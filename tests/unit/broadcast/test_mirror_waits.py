"""What a mirror waits for, what it tells its maker of who is here, and whom a new answer would serve."""

from __future__ import annotations

import asyncio

from broadcast.mirror import LOOK_S
from broadcast.outcome import Outcome
from broadcast.subscription import Subscription
from runtime.errors import LeaderLost
from tests.fakes.flights import batch, view
from tests.fakes.mirrors import MirrorScene
from tests.fakes.turns import settle, turns
from tests.unit.broadcast.relays import joins
from tests.virtual_time import virtual


def now() -> float:
    return asyncio.get_running_loop().time()


# -- waiting ----------------------------------------------------------------------------------
async def reached(scene: MirrorScene, epoch: int, seq: int) -> tuple[float, int]:
    """How long it waited, and how often it looked."""
    begun = now()
    await scene.mirror.until_reached(epoch, seq, 1.0)
    waited = now() - begun
    await settle()
    return round(waited, 6), len(scene.flights.named("pull"))


@virtual
async def test_what_a_reader_has_seen_is_waited_for() -> None:
    """It comes from another worker and is a little ahead: it must not be told that its place is unknown."""
    scene = MirrorScene()
    scene.flights.replies["pull"] = [view(), view(), view(batch(1, "a", "b"), events=2)]
    assert await reached(scene, 5, 2) == (round(3 * LOOK_S, 6), 3)
    assert await reached(scene, 5, 2) == (0.0, 3)
    assert await reached(scene, 4, 9) == (0.0, 3), "void: its epoch is not ours"


@virtual
async def test_it_is_not_waited_for_in_vain_for_long() -> None:
    """A place that will never be reached is an answer too; so is an end."""
    scene = MirrorScene()
    scene.flights.replies["pull"] = [view() for _ in range(99)]
    waited, looked = await reached(scene, 5, 1)
    assert 1.0 <= waited < 1.0 + 2 * LOOK_S
    assert looked >= 1.0 / LOOK_S
    asyncio.get_running_loop().call_later(0.5, scene.broadcast.fail, LeaderLost())
    assert 0.5 <= (await reached(scene, 5, 1))[0] < 0.5 + 2 * LOOK_S


# -- the stake --------------------------------------------------------------------------------
@virtual
async def test_one_word_of_a_stake_at_a_time() -> None:
    """Two at once could arrive in the wrong order; an end while one is under way needs no other."""
    scene = MirrorScene()
    scene.mirror.attended()
    await turns(1)
    claim = scene.join()
    scene.mirror.attended()
    assert len(scene.tasks) == 1
    await settle()
    assert [call[1] for call in scene.flights.named("stake")] == ["f", "fi+"]
    scene.mirror.attended()
    assert len(scene.tasks) == 1
    claim.cancel("test")
    scene = MirrorScene()
    scene.mirror.attended()
    await turns(1)
    scene.join()
    scene.broadcast.remote = False
    await settle()
    assert [call[1] for call in scene.flights.named("stake")] == ["f"]


@virtual
async def test_a_dismissal_is_said_with_the_last_interest_only() -> None:
    """Who cancels while others here stay has dismissed nothing."""
    scene = MirrorScene()
    for dismissed, interested, said in ((True, True, False), (False, False, False), (True, False, True)):
        claims = [scene.join(attached=False)] if interested else []
        scene.broadcast.dismissed = dismissed
        scene.mirror.staked = "?"
        scene.mirror.attended()
        await settle()
        assert scene.flights.named("stake")[-1][-1] == {"dismissed": said}
        for claim in claims:
            scene.broadcast.leave(claim)


@virtual
async def test_one_reader_who_can_be_served_is_worth_a_new_answer() -> None:
    """A native one, or one who has seen no text; for those who have seen some it would be another's."""
    for attached, cursors, worthwhile in (
        ((True, False), (1, 1), True),
        ((True, True), (0, 1), True),
        ((True,), (0,), True),
        ((True,), (), True),
        ((True, True), (1, 1), False),
    ):
        scene = MirrorScene()
        scene.mirror.saw(view(batch(1, "a"), events=1))
        for number, each in enumerate(attached):
            joins(scene.broadcast, attached=each, id=str(number))
        readers = [Subscription(scene.broadcast.log, cursor) for cursor in cursors]
        scene.broadcast.readers.update(readers)
        assert scene.mirror.worthwhile is worthwhile
        scene.broadcast.conclude(Outcome.FAILED, LeaderLost())
