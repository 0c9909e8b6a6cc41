"""Nobody is shown more of a flight than other processes know, nor less than they do."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from broadcast.abreast import TOLD_S, WORD_S, Abreast, ahead
from broadcast.broadcast import Broadcast
from broadcast.leading import Leading
from broadcast.lifecycle import Phase
from broadcast.log import Log
from broadcast.mirror import Mirror
from broadcast.owner import Finish
from broadcast.shown import reached, say
from cache.errors import StoreDown
from cache.views import Batch, Ending
from tests.fakes.claims import RecordingDriver
from tests.fakes.flights import raw, view
from tests.fakes.mirrors import MirrorScene
from tests.virtual_time import virtual
from upstream.chunk import Chunk


class Relay:
    def __init__(self, *, mirror: Mirror | None = None, leading: Leading | None = None) -> None:
        self.up = True
        self.mirrors = {} if mirror is None else {"key": mirror}
        self._leading = leading

    def leading(self, broadcast: Broadcast[Chunk]) -> Leading | None:
        found = self._leading
        return found if found is not None and found.broadcast is broadcast else None


class Led:
    """As much of a Leading as is asked for: of a public flight in phase LIVE, which others know."""

    def __init__(self) -> None:
        self.broadcast: Broadcast[Chunk] = Broadcast("key", Log(5), RecordingDriver())
        self.broadcast.phase = Phase.LIVE
        self.over = self.detached = False
        self.registered = self.public = True
        self.finish: Finish | None = None
        self.broadcast.entered_at[Phase.LIVE] = 0.0
        self.said = reached(self.broadcast)
        self.looked = 0
        self.told = asyncio.Event()

    async def until_told(self) -> None:
        self.looked += 1
        await self.told.wait()
        self.told.clear()

    @property
    def real(self) -> Leading:
        return cast(Leading, self)


def now() -> float:
    return asyncio.get_running_loop().time()


def live() -> bytes:
    maker: Broadcast[Chunk] = Broadcast("key", Log(5), RecordingDriver())
    maker.phase = Phase.LIVE
    return say(maker, None, now())


@virtual
async def test_a_mirror_has_all_that_redis_knew_before_it_is_asked() -> None:
    """The end is in Redis, and its hint on the way: who asks now finds it ended."""
    scene = MirrorScene()
    scene.mirror.heard = True
    end = Ending("completed", b"{}")
    scene.flights.replies["pull"] = [view(Batch(1, [raw("a")]), end, state="completed", events=1)]
    await Abreast(Relay(mirror=scene.mirror)).level(scene.broadcast)
    assert scene.broadcast.phase is Phase.SEALED
    assert len(scene.flights.named("pull")) == 1


@virtual
async def test_a_pull_that_was_under_way_is_not_enough() -> None:
    """It may have been answered before what is asked for was there."""
    scene = MirrorScene()
    scene.flights.replies["pull"] = [
        view(Batch(1, [raw("a")]), events=1),
        view(Batch(2, [raw("b")]), events=2),
    ]
    scene.mirror.pull()
    await asyncio.sleep(0)
    assert len(scene.flights.named("pull")) == 1
    await scene.mirror.catch_up(TOLD_S)
    assert scene.texts == ["a", "b"]
    assert len(scene.flights.named("pull")) == 2


@virtual
async def test_a_redis_that_is_away_is_not_waited_for() -> None:
    """A status is answered with what is known here."""
    scene = MirrorScene()
    scene.flights.replies["pull"] = [StoreDown("away")]
    began = now()
    await scene.mirror.catch_up(TOLD_S)
    assert now() - began < TOLD_S / 10


@virtual
async def test_a_redis_that_hangs_is_waited_for_a_moment_only() -> None:
    """Bounded, whatever it does."""
    scene = MirrorScene()
    scene.mirror.pulling = True  # and never comes back
    began = now()
    await scene.mirror.catch_up(TOLD_S)
    assert now() - began == pytest.approx(TOLD_S, abs=0.01)


@virtual
async def test_the_first_word_of_a_phase_is_waited_for() -> None:
    """Else a status would say `queued` of what streams; not for long, since its maker may be frozen."""
    scene = MirrorScene()
    scene.flights.replies["pull"] = [view(), view(phase=live())]
    abreast = Abreast(Relay(mirror=scene.mirror))
    await abreast.heard(scene.broadcast)
    assert scene.broadcast.phase is Phase.LIVE
    silent, began = MirrorScene(), now()
    silent.flights.replies["pull"] = [view() for _ in range(99)]
    await Abreast(Relay(mirror=silent.mirror)).heard(silent.broadcast)
    assert now() - began == pytest.approx(WORD_S, abs=0.05)


@virtual
async def test_the_mirror_of_another_broadcast_is_let_be() -> None:
    """What has ended here under that key is not that mirror's."""
    scene = MirrorScene()
    other: Broadcast[Chunk] = Broadcast("key", Log(4), RecordingDriver())
    abreast = Abreast(Relay(mirror=scene.mirror))
    await abreast.heard(other)
    await abreast.level(other)
    assert scene.flights.calls == []


@virtual
async def test_a_maker_tells_before_it_shows() -> None:
    """Redis knows of QUEUED: whoever asks here for the status waits until it knows of LIVE too."""
    led = Led()
    led.said = ("queued", 1, 0)
    assert ahead(led.real)
    asyncio.get_running_loop().call_later(TOLD_S / 2, setattr, led, "said", reached(led.broadcast))
    began = now()
    await Abreast(Relay(leading=led.real)).level(led.broadcast)
    assert now() - began == pytest.approx(TOLD_S / 2, abs=0.01)


@virtual
async def test_a_phase_that_has_passed_is_told_as_well() -> None:
    """It streamed for a moment, failed, and waits again: here it shows `streaming`, so there it must."""
    led = Led()
    led.broadcast.phase = Phase.QUEUED
    led.said = ("queued", 1, 0)
    assert ahead(led.real)
    led.said = ("queued", 2, 0)
    assert not ahead(led.real)


@virtual
async def test_without_redis_a_maker_shows_what_it_has() -> None:
    """And where Redis does not take it, after a moment."""
    led = Led()
    led.finish = Finish("completed", b"{}")
    relay, began = Relay(leading=led.real), now()
    await Abreast(relay).level(led.broadcast)
    assert now() - began == pytest.approx(TOLD_S, abs=0.01)
    relay.up, began = False, now()
    await Abreast(relay).level(led.broadcast)
    assert now() == began


@virtual
async def test_whoever_waits_for_an_end_is_woken_by_it() -> None:
    """All readers of an answer wait for it at once: looking again and again would take the loop from it."""
    led = Led()
    led.finish = Finish("completed", b"{}")
    loop, began = asyncio.get_running_loop(), now()
    loop.call_later(TOLD_S / 4, led.told.set)  # something else: it was refused, and is tried again
    loop.call_later(TOLD_S / 2, setattr, led, "over", True)
    loop.call_later(TOLD_S / 2, led.told.set)
    await Abreast(Relay(leading=led.real)).level(led.broadcast)
    assert now() - began == pytest.approx(TOLD_S / 2, abs=0.001)
    assert led.looked == 2


@virtual
async def test_what_nobody_else_can_know_is_never_ahead() -> None:
    """The end is, until Redis has it; a phase only where it is public."""
    led = Led()
    assert not ahead(led.real)
    led.said = ("queued", 1, 0)
    led.public = False
    assert not ahead(led.real)
    led.finish = Finish("completed", b"{}")
    assert ahead(led.real)
    for name, value in (("over", True), ("detached", True), ("registered", False)):
        before = getattr(led, name)
        setattr(led, name, value)
        assert not ahead(led.real), name
        setattr(led, name, before)
