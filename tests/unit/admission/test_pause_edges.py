"""The edges of a pause: none at all, its very end, and the steps after it."""

from __future__ import annotations

import asyncio

from admission.pause import Pause
from admission.queue import WaitingRoom
from tests.virtual_time import virtual


class _Nobody:
    rank = (0.0, 0)


@virtual
async def test_a_pause_of_nothing_or_less_is_only_the_gradual_restart() -> None:
    """A Retry-After of 0, or one that has passed on the way, keeps nobody for a second."""
    for seconds in (0.0, -5.0):
        pause = Pause(20, lambda: None)
        pause.begin(seconds)
        assert pause.remaining() == 0
        assert not pause.allows()
        await asyncio.sleep(0.05)
        assert [pause.allows() for _ in range(3)] == [True, True, False]


@virtual
async def test_once_it_restarts_nothing_remains() -> None:
    """What is foretold then is the stage's own pace: no rest of a pause, and no time given back."""
    pause = Pause(10, lambda: None)
    pause.begin(2)
    await asyncio.sleep(1.5)
    assert pause.remaining() == 0.5
    await asyncio.sleep(0.75)
    assert pause.remaining() == 0
    await asyncio.sleep(10)
    assert pause.remaining() == 0


@virtual
async def test_a_pause_that_ends_no_later_takes_nothing_back() -> None:
    """The same end said again, in the moment in which the first are let in."""
    pause = Pause(10, lambda: None)
    pause.begin(1)
    await asyncio.sleep(1)
    pause.begin(0)
    assert pause.allows()


def test_who_does_not_wait_is_said_not_to() -> None:
    """The room says whether somebody left it by this: a yes or a no."""
    assert WaitingRoom[_Nobody]().discard(_Nobody()) is False
