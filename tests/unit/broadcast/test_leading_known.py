"""How a broadcast that began without Redis becomes known there: with its own ids, and in time."""

from __future__ import annotations

import asyncio

from broadcast.lifecycle import Signal
from broadcast.subscription import Subscription
from cache.flights import Led, Wait
from cache.views import Others
from tests.fakes.flights import chunk
from tests.fakes.turns import settle, turns
from tests.unit.broadcast.relays import RelayScene, unregistered
from tests.virtual_time import virtual
from upstream.chunk import Chunk


@virtual
async def test_who_follows_before_it_is_known_gets_what_there_is_once_it_is() -> None:
    """A push came first: it is not lost on the way."""
    scene = RelayScene()
    leading = await unregistered(scene)
    scene.flights.replies["join"] = [Led(9)]
    scene.flights.replies["append"] = [Others(1, 1, 1)]
    leading.publish()
    await asyncio.sleep(1)
    assert scene.called() == ["join", "append"]


@virtual
async def test_readers_learn_their_new_epoch_at_once() -> None:
    """Their ids carry it: whoever reconnects must name the one that Redis knows."""
    scene = RelayScene()
    leading = await unregistered(scene)
    reader: Subscription[Chunk] = Subscription(leading.broadcast.log)
    leading.broadcast.readers.add(reader)
    await reader.wait()
    woken = asyncio.get_running_loop().create_task(reader.wait())
    scene.flights.replies["join"] = [Led(9)]
    leading.touch()
    await settle()
    assert woken.done()
    assert reader.voided


@virtual
async def test_text_that_comes_while_redis_is_asked_keeps_its_epoch() -> None:
    """A reader has its ids already: our own epoch is made known, and not the given one taken."""
    scene = RelayScene()
    leading = await unregistered(scene)
    scene.flights.replies["join"] = [Led(9)]
    leading.touch()
    await turns(1)
    leading.broadcast.append([chunk("a")])
    await settle()
    assert scene.called() == ["join", "reseed"]
    assert leading.epoch == 5
    assert leading.registered


@virtual
async def test_who_still_waits_for_a_permit_claims_after_those_who_do_not() -> None:
    """Rows 56 and 57: a prepared flight would give up its place for one that is behind a minute of others."""
    scene = RelayScene()
    leading = await unregistered(scene)
    scene.flights.replies["join"] = [Wait(3000), Led(9)]
    leading.touch()
    await asyncio.sleep(3.49)
    assert scene.called() == ["join"]
    await asyncio.sleep(0.04)
    assert scene.called() == ["join", "join"]


@virtual
async def test_the_guard_is_waited_for_as_long_as_redis_says() -> None:
    """Too early costs a call, too late a twin."""
    scene = RelayScene()
    leading = await unregistered(scene)
    leading.broadcast.signal(Signal.GRANTED)
    scene.flights.replies["join"] = [Wait(3000), Led(9)]
    leading.touch()
    await asyncio.sleep(2.999)
    assert scene.called() == ["join"]
    await asyncio.sleep(0.03)
    assert scene.called() == ["join", "join"]
    assert leading.registered
    assert all(0 < timeout_s <= 1 for _, timeout_s in scene.flights.named("join"))
