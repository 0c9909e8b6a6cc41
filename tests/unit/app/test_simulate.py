"""The simulated model as a child of the gateway: one address for its whole life, none of our secrets."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from app.listening import listen
from app.simulate import SimulatorChild, inherited
from tests.fakes.eventually import eventually
from tests.fakes.real_redis import supervised
from tests.system.processes import fetch

pytestmark = pytest.mark.anyio


def environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


async def test_it_answers_at_one_address_also_after_it_has_died(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway's upstream address is fixed at its start: a respawn must be found there."""
    monkeypatch.setenv("OPENAI_API_KEY", "s3cret")
    monkeypatch.setenv("REFRAIN_ADMIN_KEY", "s3cret")
    async with supervised() as supervisor:
        simulator = SimulatorChild()
        try:
            assert await simulator.start(supervisor)
            assert json.loads(fetch(f"{simulator.url}/models"))["data"][0]["id"] == "refrain-sim"
            first = simulator._child.pid
            assert first is not None
            assert b"s3cret" not in environment_of(first)

            os.kill(first, signal.SIGKILL)
            await eventually(lambda: simulator._child.pid not in (None, first), within=30)

            # The socket stayed open: this call waits in its backlog until the new process takes it.
            assert json.loads(fetch(f"{simulator.url}/models", timeout=30))["data"]
        finally:
            await simulator.stop()
        with pytest.raises(OSError, match="refused"):
            fetch(f"{simulator.url}/models")
    assert supervisor.healthy


def test_an_inherited_socket_is_the_one_that_was_opened() -> None:
    """`refrain sim --fd`: the parent has bound it already."""
    with listen("127.0.0.1", 0) as opened:
        address = opened.getsockname()
        with inherited(os.dup(opened.fileno())) as taken:
            assert taken.getsockname() == address
