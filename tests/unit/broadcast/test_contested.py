"""Whether readers of what is made here may have seen a later answer, made by whoever took it for dead."""

from __future__ import annotations

import asyncio

import pytest

from broadcast.leading import Leading
from broadcast.log import Log
from broadcast.mirror import LOOK_S
from cache.errors import StoreDown
from tests.fakes.flights import chunk, pulse, view
from tests.fakes.mirrors import MirrorScene
from tests.fakes.turns import settle
from tests.unit.broadcast.relays import LEASE_S, RelayScene, joins
from tests.unit.broadcast.test_overruled import Relay
from tests.virtual_time import virtual
from upstream.chunk import Chunk


def shown(scene: RelayScene) -> Leading:
    """One of epoch 5, with text, that somebody here reads."""
    leading = scene.leads()
    joins(leading.broadcast)
    leading.broadcast.append([chunk("a")])
    return leading


@pytest.mark.parametrize(("epoch", "contested"), [(9, True), (5, False)])
@virtual
async def test_a_reader_who_has_seen_more_than_we_know_makes_us_ask(epoch: int, contested: bool) -> None:
    """A process that has just thawed has not had its beat: it must neither believe nor refuse unasked."""
    scene = RelayScene()
    leading = shown(scene)
    await scene.relay.trust.seen(leading.broadcast, 5)
    assert scene.flights.calls == [], "a reader of ours costs nothing"
    scene.flights.replies["beat"] = [[pulse(epoch=epoch, owner="me" if epoch == 5 else "other")]]
    await scene.relay.trust.seen(leading.broadcast, 9)
    assert len(scene.flights.named("beat")) == 1
    assert (leading.broadcast.log.contested, leading.detached) == (contested, contested)
    assert leading.broadcast.running, "its own readers read on"


@pytest.mark.parametrize(
    ("lapsed", "registered", "contested"),
    [(True, True, True), (False, True, False), (True, False, False)],
)
@pytest.mark.parametrize("up", [True, False])
@virtual
async def test_while_redis_cannot_be_asked_the_lease_decides(
    lapsed: bool, registered: bool, contested: bool, up: bool
) -> None:
    """Within it nobody can have taken over, and nobody takes over what Redis does not know."""
    scene = RelayScene()
    leading = shown(scene)
    await asyncio.sleep(LEASE_S + 1 if lapsed else 0)
    leading.registered = registered
    scene.flights.replies["beat"] = [StoreDown("away")]
    if not up:
        scene.link.fall()
    await scene.relay.trust.seen(leading.broadcast, 9)
    # What Redis does not know is in no beat: there was nobody to ask, and so there was no failure.
    assert leading.broadcast.log.contested is contested


@virtual
async def test_what_is_not_led_here_is_not_asked_about() -> None:
    """It has ended, or is made elsewhere: a mirror pulls."""
    scene = RelayScene()
    await scene.relay.trust.seen(scene.follows().broadcast, 9)
    await scene.relay.trust.seen(scene.broadcast("nobody's"), 9)
    assert scene.flights.named("beat") == []


@virtual
async def test_who_is_let_go_of_is_contested_until_it_starts_again() -> None:
    """Also under a key that is led again here: another process may send its readers to the later one."""
    scene = RelayScene()
    old = scene.leads()
    scene.leads(epoch=6)
    assert old.broadcast.log.contested
    old.broadcast.log.restart(7)
    assert not old.broadcast.log.contested


@pytest.mark.parametrize(("owner", "contested"), [("me", False), ("other", True)])
@virtual
async def test_while_it_looks_who_leads_readers_may_have_seen_that(owner: str, contested: bool) -> None:
    """With nothing shown it is about to follow the other, and until then refuses nobody of its readers."""
    relay = Relay()
    log = relay.leading.broadcast.log
    relay.played.replies["attach"] = [view(epoch=9, owner=owner)]
    relay.act(None)
    assert log.contested
    await settle()
    assert log.contested is contested


@virtual
async def test_a_mirror_that_has_not_heard_of_a_takeover_waits_for_it() -> None:
    """Its reader comes from the process that took over, a moment before the hint does."""
    scene = MirrorScene()
    scene.flights.replies["pull"] = [view(), view(epoch=9)]
    began = asyncio.get_running_loop().time()
    await scene.mirror.until_reached(9, 0, 1.0)
    assert scene.broadcast.log.epoch == 9
    assert asyncio.get_running_loop().time() - began == pytest.approx(2 * LOOK_S)


def test_a_log_is_nobody_elses_at_first() -> None:
    """Else every foreign cursor would be taken for a void one, and answered with a full replay."""
    log: Log[Chunk] = Log(1)
    assert not log.contested
