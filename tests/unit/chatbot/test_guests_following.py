"""What a guest is read from: one mirror per key, and never the flight after its own."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from broadcast.mirror import Mirror
from cache.requests import Known
from chatbot.guests import SAID_S, Guests
from chatbot.record import Record
from tests.fakes.flights import view
from tests.fakes.mirrors import MirrorScene
from tests.virtual_time import virtual


class Parts:
    """The relay around one mirror, played. `made` counts mirrors that were made beside it."""

    def __init__(self, mirror: Mirror) -> None:
        self.up = True
        self.link = self.flights = self.trust = self
        self.proc = "me"
        self.mirrors = {"key": mirror}
        self.leads: dict[str, object] = {}
        self.dead: set[str] = set()
        self.retention_ms = 1000
        self.made = 0
        self.seen_at: list[int] = []

    def listen(self, kind: str, handler: object) -> None:
        """Nothing is pushed here."""

    def is_dead(self, proc: str) -> bool:
        return proc in self.dead

    def mirror(self, *args: object) -> None:
        self.made += 1

    async def seen(self, broadcast: object, epoch: int) -> None:
        self.seen_at.append(epoch)


def guests_of(parts: Parts) -> Guests:
    some = cast(Any, parts)
    return Guests(some, some, some, some, some, some, some, some, settle_s=1.0)


@virtual
async def test_a_mirror_that_has_missed_a_takeover_is_told_of_it_and_kept() -> None:
    """A second one in its place would leave the first one's readers without a feed, for ever."""
    scene = MirrorScene()
    parts = Parts(scene.mirror)
    found = guests_of(parts)._followed("key", view(epoch=7), "t")
    assert found is scene.broadcast
    assert (scene.broadcast.log.epoch, parts.made) == (7, 0)
    assert parts.mirrors["key"] is scene.mirror


@virtual
async def test_a_flight_that_began_after_its_end_is_not_its_own() -> None:
    """Its owner is about to say how it ended: until then a newer epoch may be another's answer."""
    scene = MirrorScene()
    parts = Parts(scene.mirror)
    guests, known = guests_of(parts), Known(b"", "follower", 5, "owner", b"")
    now = asyncio.get_running_loop().time()
    its_own = guests._is_its_own
    assert its_own(known, view(epoch=5), now)
    assert not its_own(known, view(epoch=4), now - 2 * SAID_S)
    assert not its_own(known, view(epoch=6), now)
    assert its_own(known, view(epoch=6), now - 2 * SAID_S)  # it was taken over, then
    parts.dead.add("owner")
    assert its_own(known, view(epoch=6), now)
    assert not its_own(known, view(epoch=4), now)


@virtual
@pytest.mark.parametrize("seq", [0, 2])
async def test_what_is_read_without_a_mirror_is_readable_at_once(seq: int) -> None:
    """It is made here, or has ended: nothing has to be reached."""
    scene = MirrorScene()
    parts = Parts(scene.mirror)
    parts.mirrors.clear()
    record = cast(Any, type("R", (), {"guest": False, "claim": None, "broadcast": scene.broadcast}))
    began = asyncio.get_running_loop().time()
    async with guests_of(parts).readable(cast(Record, record), (5, seq)):
        assert asyncio.get_running_loop().time() == began
        assert parts.seen_at == [5], "whether it may have been overruled is found out first"
    async with guests_of(parts).readable(cast(Record, record), None):
        assert parts.seen_at == [5], "a fresh reader has seen nothing"
