"""Tools that are HTTP endpoints, described in a file: the simulator's hook plays the service."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.fakes.eventually import eventually
from tests.system.client import Client
from tests.system.processes import GatewayProcess, SimulatorProcess
from tests.system.prompts import prompt, saying
from tests.system.scene import SOON_S, Simulate, Start, accepted, at_rest, held, hook_of, shown
from tests.system.workplace import heard, statuses

pytestmark = pytest.mark.anyio

FILE = """
    tools:
      - name: ask
        description: Asks the service.
        method: POST
        url: {url}
        parameters: {{messages: {{type: array, items: {{type: object}}}}}}
        stateful: false
        cacheable: true
        retries: 1
        timeout_s: {timeout}
    """


@pytest.fixture
def simulator(simulate: Simulate) -> SimulatorProcess:
    return simulate(ttft=0, tps=0, tokens=40)


def serve(
    simulator: SimulatorProcess, start: Start, folder: Path, timeout: float = 20, **more: Any
) -> GatewayProcess:
    path = folder / "tools.yaml"
    path.write_text(dedent(FILE.format(url=hook_of(simulator), timeout=timeout)))
    return start(simulator, TOOLS_FILE=path, **more)


def asking(words: str, *said: str) -> str:
    """A question whose model asks the service each of these."""
    given = [json.dumps({"messages": [{"role": "user", "content": one}]}) for one in said]
    return prompt(words, calls=",".join(f"ask:{saying(one)}" for one in given))


async def test_what_the_service_says_is_what_the_model_reads(
    simulator: SimulatorProcess, start: Start, tmp_path: Path
) -> None:
    """Part 3: the body is sent, the reply is a result; a refusal is told, one that may pass is retried."""
    gateway = serve(simulator, start, tmp_path)
    question = asking("Both", "well", prompt("busy", prepare_status=503), prompt("wrong", prepare_status=404))
    async with Client(gateway.url) as client:
        chat = await accepted(client, question)
        stream = await client.stream(chat["stream_url"])
        record = await shown(client, chat["id"], "completed")
    said = heard(stream.text)
    assert said[0].startswith('{"messages":[{"role":"user","content":"well"}')
    assert said[1:] == ["[ask failed: status 503]", "[ask failed: status 404]"]
    assert statuses(record) == [("ask", "ok"), ("ask", "failed"), ("ask", "failed")]
    assert [one["tries"] for one in record["preparation"]["tools"]] == [1, 2, 1]
    assert simulator.stats()["prepare"]["calls"] == 4
    await at_rest(gateway)


async def test_its_exchange_ends_with_its_time_and_with_its_request(
    simulator: SimulatorProcess, start: Start, tmp_path: Path
) -> None:
    """Row 71: thirty exchanges beyond their time are thirty that the service saw end; so with a cancel."""
    gateway = serve(simulator, start, tmp_path, timeout=0.3)
    async with Client(gateway.url) as client:
        many = [prompt(f"slow {number}", prepare_hold="never") for number in range(30)]
        stream = await client.ask(asking("Thirty", *many))
        assert all(said.startswith("[ask timed out after 0.3 s") for said in heard(stream.text))
        assert len(heard(stream.text)) == 30
        await eventually(lambda: simulator.stats()["prepare"]["aborted"] == 30, within=SOON_S)
    await at_rest(gateway)

    patient = serve(simulator, start, tmp_path)
    simulator.reset()
    async with Client(patient.url) as client:
        chat = await accepted(client, asking("Left", prompt("waits", prepare_hold="longer")))
        await held(simulator, "longer")
        await client.cancel(chat["id"])
        await eventually(lambda: simulator.stats()["prepare"]["aborted"] == 1, within=SOON_S)
    await at_rest(patient)


async def test_a_service_that_is_gone_is_a_result_too(
    simulator: SimulatorProcess, simulate: Simulate, start: Start, tmp_path: Path
) -> None:
    """Part 3: nobody listens there: the model is told, without an address, and answers."""
    elsewhere = simulate()
    path = tmp_path / "tools.yaml"
    path.write_text(dedent(FILE.format(url=hook_of(elsewhere), timeout=20)))
    gateway = start(simulator, TOOLS_FILE=path)
    elsewhere.kill()
    async with Client(gateway.url) as client:
        stream = await client.ask(asking("Anybody?", "hello"))
    assert heard(stream.text) == ["[ask failed: there was no reply]"]
    assert "127.0.0.1" not in stream.text
    await at_rest(gateway)
