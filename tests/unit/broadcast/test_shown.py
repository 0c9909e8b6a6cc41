"""A mirror shows what its maker says: phase, step, place, and times as ages: no two clocks are the same."""

from __future__ import annotations

import asyncio

import pytest

from broadcast.lifecycle import Phase
from broadcast.shown import Shown, hear, say
from tests.fakes.claims import Scene
from tests.virtual_time import virtual


@virtual
async def test_a_mirror_shows_what_its_maker_does() -> None:
    """Phase, step, place and eta; the times have the same age on both sides."""
    maker, mirror = Scene(), Scene()
    mirror.broadcast.remote = True
    await asyncio.sleep(3)
    maker.join(attached=True)
    maker.go(Phase.PREPARING)
    maker.broadcast.show_step("hook")
    await asyncio.sleep(2)
    loop = asyncio.get_running_loop()
    said = say(maker.broadcast, 4.5, loop.time())
    hear(mirror.broadcast, said, loop.time() + 1000)
    assert (mirror.broadcast.phase, mirror.broadcast.step) == (Phase.PREPARING, "hook")
    assert mirror.broadcast.shown == Shown(0, 4.5)
    assert mirror.broadcast.entered_at[Phase.PREPARING] == pytest.approx(loop.time() + 998)
    assert mirror.broadcast.first_delta_at is None
    maker.broadcast.claims["c1"].cancel("test")


@virtual
async def test_the_first_text_has_its_time() -> None:
    """What a reader elsewhere is told of its wait is measured where the text came from."""
    maker, mirror = Scene(), Scene()
    mirror.broadcast.remote = True
    maker.join(attached=True)
    maker.go(Phase.LIVE)
    maker.say(b"x")
    await asyncio.sleep(2)
    now = asyncio.get_running_loop().time()
    hear(mirror.broadcast, say(maker.broadcast, None, now), now)
    assert mirror.broadcast.first_delta_at == pytest.approx(now - 2)
    assert mirror.broadcast.phase is Phase.LIVE
    maker.broadcast.complete()


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"{}",
        b"[1]",
        b"\xff",
        b'["no phase",null,0,null]',
        b'["live",null,"x",null]',
        b'["live",null,0,null,{"x":1}]',
    ],
)
def test_what_cannot_be_read_changes_nothing(said: bytes) -> None:
    """A newer version's words, or no words: the mirror stays as it is, in whole."""

    @virtual
    async def unchanged() -> None:
        mirror = Scene().broadcast
        mirror.remote = True
        hear(mirror, said, 0.0)
        assert (mirror.phase, mirror.step, mirror.shown) == (Phase.WAITING, None, Shown())
        assert list(mirror.entered_at) == [Phase.WAITING]

    unchanged()


@virtual
async def test_an_end_is_not_shown_but_read() -> None:
    """A mirror ends with the last entry of its log, and not because its maker's phase is over."""
    maker, mirror = Scene(), Scene()
    mirror.broadcast.remote = True
    maker.join(attached=True)
    maker.go(Phase.LIVE)
    maker.broadcast.complete()
    hear(mirror.broadcast, say(maker.broadcast, None, 0.0), 0.0)
    assert mirror.broadcast.running
