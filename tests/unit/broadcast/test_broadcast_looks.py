"""What is asked of a broadcast by those who only look: whether there is anything to wait for but its text."""

from __future__ import annotations

from broadcast.lifecycle import Phase
from cache.views import Others
from runtime.errors import LeaderLost
from tests.fakes.claims import Scene
from tests.virtual_time import virtual


@virtual
async def test_it_is_live_from_its_first_token_on() -> None:
    """A reader is told of a queue before that, and of none after; what has ended is read at once."""
    scene = Scene()
    scene.join(attached=True)
    assert scene.broadcast.live is False
    scene.go(Phase.LIVE)
    assert scene.broadcast.live is True
    scene.broadcast.fail(LeaderLost())
    assert scene.broadcast.live is True


@virtual
async def test_others_who_leave_have_dismissed_nothing() -> None:
    """Unless they say so: what runs on unwatched runs on."""
    for dismissed in (False, True):
        scene = Scene(finish=True)
        claim = scene.join(attached=True)
        scene.go(Phase.LIVE)
        scene.broadcast.heard(Others(1, 1, 1))
        claim.disconnect()
        if dismissed:
            scene.broadcast.heard(Others(), dismissed=True)
        else:
            scene.broadcast.heard(Others())
        assert scene.broadcast.running is not dismissed
