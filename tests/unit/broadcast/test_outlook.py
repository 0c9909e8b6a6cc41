"""Refused before anything is begun: no place to wait in, or a wait that would be too long."""

from __future__ import annotations

import asyncio

import pytest

from admission import Stage
from broadcast.outlook import Outlook
from runtime.errors import QueueFull, QueueTimeout
from tests.fakes.leases import Guest
from tests.virtual_time import virtual


def outlook(leaders: Stage, streams: Stage) -> Outlook:
    return Outlook(leaders, streams, max_pending=2, queue_s=5.0, slot_s=8.0)


async def taught(name: str, hold_s: float, max_waiting: int | None = None) -> Stage:
    """A stage of one permit that is held for so long, and is held now with one who waits."""
    stage = Stage(name, 1, max_waiting)
    async with stage.admit(Guest()):
        await asyncio.sleep(hold_s)
    stage.admit(Guest())
    stage.admit(Guest())
    return stage


@virtual
async def test_with_room_everywhere_nothing_is_refused() -> None:
    """The usual case."""
    one = outlook(Stage("leaders", 1), Stage("llm_streams", 1))
    one.check()
    assert not one.hopeless


@virtual
async def test_too_many_that_wait_for_the_model_are_refused_and_counted() -> None:
    """On the account of the stage that it is about."""
    streams = Stage("llm_streams", 1)
    one = outlook(Stage("leaders", 1), streams)
    one.pending = 2
    assert one.hopeless
    with pytest.raises(QueueFull):
        one.check()
    assert streams.stats().refused == {"queue_full": 1}
    one.pending = 1
    one.check()


@pytest.mark.parametrize(
    ("stage", "hold_s", "refused"), [(0, 2.4, False), (0, 2.6, True), (1, 3.9, False), (1, 4.1, True)]
)
def test_a_wait_that_would_be_too_long_is_refused_by_its_stage(
    stage: int, hold_s: float, refused: bool
) -> None:
    """Each stage by its own limit: two before it, so twice the holding time; what is missing is told."""

    @virtual
    async def judged() -> None:
        stages = [Stage("leaders", 1), Stage("llm_streams", 1)]
        stages[stage] = await taught(stages[stage].name, hold_s)
        one = outlook(*stages)
        assert one.hopeless is refused
        if refused:
            with pytest.raises(QueueTimeout) as caught:
                one.check()
            assert caught.value.retry_after == pytest.approx(2 * hold_s - (5.0, 8.0)[stage])
            assert stages[stage].stats().refused == {QueueTimeout.code: 1}
        else:
            one.check()

    judged()


@virtual
async def test_a_full_leaders_queue_is_hopeless_without_being_counted_here() -> None:
    """The stage refuses, and counts, by itself: it is only looked at before a key is claimed."""
    leaders = Stage("leaders", 1, max_waiting=0)
    leaders.admit(Guest())
    one = outlook(leaders, Stage("llm_streams", 1))
    assert one.hopeless
    one.check()
    assert leaders.stats().refused == {}
