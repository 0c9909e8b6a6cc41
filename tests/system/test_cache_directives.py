"""`Cache-Control` in combination, where several processes have the answer at hand."""

from __future__ import annotations

import itertools

import pytest

from tests.system.client import Client
from tests.system.crew import crew, pinned
from tests.system.processes import GatewayProcess, SimulatorProcess
from tests.system.prompts import answer_to
from tests.system.scene import Simulate, Start, at_rest, calls_of

pytestmark = pytest.mark.anyio

TOKENS = 6


@pytest.fixture
def simulator(simulate: Simulate) -> SimulatorProcess:
    return simulate(ttft=0, tps=0, tokens=TOKENS)


@pytest.fixture(params=[1, 2], ids=["one process", "two workers"])
def gateway(simulator: SimulatorProcess, start: Start, request: pytest.FixtureRequest) -> GatewayProcess:
    return start(simulator, workers=request.param)


@pytest.mark.parametrize("other", ["no-cache", "max-age=0"])
async def test_what_is_too_old_and_may_not_be_made_is_504(
    simulator: SimulatorProcess, gateway: GatewayProcess, other: str
) -> None:
    """`only-if-cached` never calls the model, and an answer that is too old is none: at once, on both wires.

    A process that looked again and again for it would stand still for everybody.
    """
    async with Client(gateway.url) as client:
        assert (await client.complete("Kept")).json["choices"][0]["message"]["content"] == answer_to(
            "Kept", TOKENS
        )
    async with pinned(gateway, list(crew(gateway).values())) as clients:
        for client, order in itertools.product(
            clients, (f"only-if-cached, {other}", f"{other}, only-if-cached")
        ):
            headers = {"cache-control": order}
            assert (await client.complete("Kept", headers=headers)).status == 504
            assert (await client.submit("Kept", headers=headers)).status == 504
            kept = await client.complete("Kept", headers={"cache-control": "only-if-cached"})
            assert kept.headers["cache-status"].startswith("refrain; hit")
    assert calls_of(simulator, "Kept") == 1
    await at_rest(gateway)
