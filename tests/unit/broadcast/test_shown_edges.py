"""The times that go over: as ages in milliseconds, exact whatever their size; and a place before any word."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from broadcast.lifecycle import Phase
from broadcast.shown import Shown, hear, say
from tests.fakes.claims import Scene
from tests.virtual_time import virtual

HOURS_S = 7200.0


@virtual
async def test_hours_keep_their_milliseconds() -> None:
    """A status that was asked elsewhere shows the same seconds of waiting."""
    maker, mirror = Scene(), Scene()
    mirror.broadcast.remote = True
    maker.join(attached=True)
    maker.go(Phase.LIVE)
    maker.say(b"x")
    await asyncio.sleep(HOURS_S)
    now = asyncio.get_running_loop().time()
    said = say(maker.broadcast, None, now)
    assert msgspec.json.decode(said)[4]["live"] == HOURS_S * 1000
    hear(mirror.broadcast, said, now + 5)
    assert mirror.broadcast.entered_at[Phase.LIVE] == pytest.approx(now + 5 - HOURS_S, abs=0.001)
    assert mirror.broadcast.first_delta_at == pytest.approx(now + 5 - HOURS_S, abs=0.001)
    maker.broadcast.complete()


def test_what_has_said_nothing_waits_in_no_queue() -> None:
    """A mirror before its maker's first word: no place, and none that counts from 0."""

    @virtual
    async def silent() -> None:
        mirror = Scene().broadcast
        mirror.remote = True
        assert mirror.position == 0
        assert (Shown().position, Shown().eta_s) == (0, None)

    silent()
