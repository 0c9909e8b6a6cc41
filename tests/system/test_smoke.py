"""The first five minutes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.system.client import Client, text_of
from tests.system.processes import GatewayProcess, SimulatorProcess

pytestmark = pytest.mark.anyio


async def test_a_question_streams_then_hits_and_both_wires_share(
    simulate: Callable[..., SimulatorProcess], start: Callable[..., GatewayProcess]
) -> None:
    """Ask natively, ask again on the OpenAI wire: one upstream call, equal texts."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator)
    async with Client(gateway.url) as client:
        stream = await client.ask("What is a refrain?")
        assert stream.end.name == "done"
        reply, frames = await client.chunks("What is a refrain?")
        assert frames[-1] == "[DONE]"
        assert text_of(frames) == stream.text
        assert "hit" in reply.headers["cache-status"]
    assert simulator.stats()["calls"] == 1
    assert gateway.stop() == 0
