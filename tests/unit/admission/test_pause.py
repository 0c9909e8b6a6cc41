"""A pause: nothing until its end, then a tenth of the capacity per step, then no bound any more."""

from __future__ import annotations

import asyncio

import pytest

from admission.pause import STEP_S, STEPS, Pause
from tests.virtual_time import virtual


def grants(pause: Pause, most: int = 1000) -> int:
    """How many it allows right now."""
    return sum(pause.allows() for _ in range(most))


class Watched:
    """A pause, and how much it allowed each time it said that there was room."""

    def __init__(self, capacity: int) -> None:
        self.began = asyncio.get_running_loop().time()
        self.steps: list[tuple[float, int]] = []
        self.pause = Pause(capacity, self._take_all)

    def _take_all(self) -> None:
        elapsed = asyncio.get_running_loop().time() - self.began
        self.steps.append((round(elapsed, 6), grants(self.pause)))


@virtual
async def test_without_a_pause_nothing_is_bounded() -> None:
    """The common case costs nothing."""
    pause = Pause(4, lambda: None)
    assert grants(pause, 50) == 50
    assert pause.remaining() == 0


@pytest.mark.parametrize(("capacity", "per_step"), [(64, 6), (10, 1), (1, 1), (100, 10)])
def test_the_restart_is_gradual(capacity: int, per_step: int) -> None:
    """A tenth of the capacity, at least one, per 100 ms, and after a second all that there is room for."""

    @virtual
    async def restart() -> None:
        watched = Watched(capacity)
        watched.pause.begin(5)
        assert grants(watched.pause) == 0
        assert watched.pause.remaining() == 5
        await asyncio.sleep(60)

        *gradual, last = watched.steps
        assert gradual == [(round(5 + step * STEP_S, 6), per_step) for step in range(STEPS)]
        assert last == (6.0, 1000)

    restart()


@virtual
async def test_a_step_that_is_not_used_is_not_saved_up() -> None:
    """Nobody asked for half a second: the next tenth is still a tenth, not five."""
    pause = Pause(10, lambda: None)
    pause.begin(1)
    await asyncio.sleep(1.55)
    assert grants(pause) == 1


@virtual
async def test_a_shorter_pause_never_shortens_the_one_under_way() -> None:
    """Two answers 429: whoever asks for more time gets it."""
    watched = Watched(10)
    watched.pause.begin(10)
    watched.pause.begin(2)
    assert watched.pause.remaining() == 10
    await asyncio.sleep(9)
    assert watched.steps == []
    watched.pause.begin(4)
    await asyncio.sleep(3)
    assert watched.steps == []
    await asyncio.sleep(30)
    assert watched.steps[0] == (13.0, 1)


@virtual
async def test_a_pause_during_the_restart_starts_over() -> None:
    """The upstream refused again: no grant of the old steps comes through."""
    watched = Watched(10)
    watched.pause.begin(1)
    await asyncio.sleep(1.25)
    assert len(watched.steps) == 3
    watched.pause.begin(2)
    await asyncio.sleep(1.9)
    assert len(watched.steps) == 3
    await asyncio.sleep(10)
    assert len(watched.steps) == 3 + STEPS + 1
