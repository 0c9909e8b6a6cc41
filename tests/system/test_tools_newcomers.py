"""Row 12: who asks when what a tool has found is no longer true gets an answer of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.fakes.eventually import eventually
from tests.system.client import Client
from tests.system.crew import crew, pinned
from tests.system.processes import GatewayProcess
from tests.system.scene import Simulate, Start, accepted, at_rest
from tests.system.workplace import Workplace, calling, heard

pytestmark = pytest.mark.anyio
PASSING = "tests.system.toolkit:PASSING"


@pytest.fixture(params=[1, 2], ids=["one process", "two workers"])
def gateway(request: pytest.FixtureRequest, simulate: Simulate, start: Start) -> GatewayProcess:
    return start(simulate(ttft=0, tps=0, tokens=20), workers=request.param, TOOLS=PASSING)


@pytest.fixture
def work(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


@pytest.mark.parametrize("tool", ["now", "change"])
async def test_a_prepared_answer_is_joined_by_nobody_who_comes_later(
    gateway: GatewayProcess, work: Workplace, tool: str
) -> None:
    """Row 12: who came while it was prepared shares it; later, the tool is run anew."""
    question = calling("Right now", work(tool, "it", door="door"))
    async with pinned(gateway, [crew(gateway)[1]]) as (client,):
        first, second = [await accepted(client, question) for _ in range(2)]
        assert [first["role"], second["role"]] == ["leader", "follower"]
        await work.filled(1)
        work.open("door")
        await client.until_status(first["id"], "ready")
        third = await accepted(client, question)
        assert third["role"] == "leader"
        streams = [await client.stream(chat["stream_url"]) for chat in (first, third, second)]
    assert [heard(stream.text) for stream in streams] == [["it was found"]] * 3
    assert [stream.end.json["cache"] for stream in streams] == ["miss", "miss", "coalesced"]
    assert work.begun == ["it", "it"], "once for two that came in time, once for the third"
    await at_rest(gateway)


async def test_what_streams_already_is_joined_by_nobody_who_comes_later(
    gateway: GatewayProcess, work: Workplace
) -> None:
    """Row 12: a tool that gives the answer itself runs again for whoever comes when it speaks."""
    question = calling("Tell me", work("tick", "song", door="door"))
    async with pinned(gateway, [crew(gateway)[1]]) as (client,), Client(gateway.url) as other:
        first = await accepted(client, question)
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(other.stream(first["stream_url"]))
            await work.filled(1)
            second = await accepted(client, question)
            assert second["role"] == "leader"
            listening = group.create_task(other.stream(second["stream_url"]))
            await work.filled(2)
            work.open("door")
    assert reading.result().text == listening.result().text == "song 0\nsong 1\nsong 2\n"
    await at_rest(gateway)


async def test_what_is_true_for_long_is_joined_all_the_while(
    gateway: GatewayProcess, work: Workplace
) -> None:
    """Row 22: within the seconds that its tools allow an answer is shared like any other; not after."""
    async with pinned(gateway, [crew(gateway)[1]]) as (client,):
        lasting = calling("For long", work("lasting", "long"))
        first = await accepted(client, lasting)
        await client.until_status(first["id"], "ready")
        second = await accepted(client, lasting)
        assert second["role"] == "follower"
        brief = calling("For a moment", work("fleeting", "brief"))
        third = await accepted(client, brief)
        await client.until_status(third["id"], "ready")
        late = []

        async def its_own() -> bool:
            late.append(await accepted(client, brief))
            return bool(late[-1]["role"] == "leader")

        await eventually(its_own)
        for chat in (first, second, third, *late):
            assert (await client.stream(chat["stream_url"])).end.name == "done"
    assert work.begun == ["long", "brief", "brief"]
    await at_rest(gateway)
