"""What a refusal says of when to come again, and the wait that is just short enough."""

from __future__ import annotations

import pytest

from admission import Stage
from runtime.errors import QueueFull
from tests.unit.broadcast.test_outlook import outlook, taught
from tests.virtual_time import virtual


@virtual
async def test_a_wait_of_just_the_limit_is_let_in() -> None:
    """The limit is how long it may take, not what is too long."""
    one = outlook(await taught("leaders", 2.5), Stage("llm_streams", 1))
    assert not one.hopeless
    one.check()


@virtual
async def test_a_full_queue_says_when_its_first_place_is_free() -> None:
    """By what the model's slots take now: the next one to leave makes room, not the whole queue."""
    streams = await taught("llm_streams", 4.0)
    one = outlook(Stage("leaders", 1), streams)
    one.pending = 2
    with pytest.raises(QueueFull) as caught:
        one.check()
    assert caught.value.retry_after == pytest.approx(streams.predicted_wait(0))
    assert caught.value.retry_after != pytest.approx(streams.predicted_wait(1))
