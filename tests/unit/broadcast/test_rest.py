"""A drain ends when nothing runs and nothing is stored, and does not wait for what nobody comes to hear."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from broadcast.broadcast import Broadcast
from broadcast.lifecycle import Phase
from broadcast.rest import Rest
from tests.fakes.claims import Scene
from tests.virtual_time import virtual


def scene_at(phase: Phase) -> Broadcast[Any]:
    scene = Scene()
    scene.join(attached=phase is Phase.LIVE)
    scene.go(phase)
    return scene.broadcast


async def takes(rest: Rest, idle_s: float) -> float:
    begun = asyncio.get_running_loop().time()
    await rest.come(idle_s)
    return asyncio.get_running_loop().time() - begun


def rest_of(running: list[Any]) -> Rest:
    return Rest(cast(list[Broadcast[Any]], running))


@virtual
async def test_with_nothing_to_do_there_is_rest_at_once() -> None:
    """No drain waits for a timer that nobody needs."""
    assert await takes(rest_of([]), 5.0) == 0.0


@virtual
async def test_what_streams_is_waited_for() -> None:
    """However long it takes: until it has left, and its answer is stored."""
    running = [scene_at(Phase.LIVE)]
    rest = rest_of(running)
    loop = asyncio.get_running_loop()

    def streamed() -> None:
        rest.storing = 1
        running.clear()
        rest.tell()

    def stored() -> None:
        rest.storing = 0
        rest.tell()
        rest.tell()

    loop.call_later(100.0, streamed)
    loop.call_later(103.0, stored)
    assert await takes(rest, 5.0) == 103.0


@virtual
async def test_what_nobody_has_come_to_hear_is_waited_for_so_long() -> None:
    """Prepared, and no stream of it is open: its reader may be about to come, for the patience given."""
    assert await takes(rest_of([scene_at(Phase.IDLE), scene_at(Phase.IDLE)]), 5.0) == 5.0


@virtual
async def test_a_listener_who_comes_in_time_is_served_to_the_end() -> None:
    """It is unheard no more: the patience is over, and the drain goes on."""
    scene = Scene()
    claim = scene.join()
    scene.go(Phase.IDLE)
    running = [scene.broadcast]
    rest = rest_of(running)
    loop = asyncio.get_running_loop()

    def comes() -> None:
        claim.connect()
        rest.tell()

    def ends() -> None:
        running.clear()
        rest.tell()

    loop.call_later(3.0, comes)
    loop.call_later(20.0, ends)
    assert await takes(rest, 5.0) == 20.0
    claim.cancel("test")


@virtual
async def test_what_is_being_stored_is_waited_for_beyond_the_patience() -> None:
    """An answer that was paid for must reach the cache."""
    rest = rest_of([scene_at(Phase.IDLE)])
    rest.storing = 1

    def stored() -> None:
        rest.storing = 0
        rest.tell()

    asyncio.get_running_loop().call_later(30.0, stored)
    assert await takes(rest, 5.0) == 30.0
