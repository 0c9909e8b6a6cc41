"""Row 12, through several workers: what one has prepared is not joined through another when it is too old."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.eventually import eventually
from tests.system.client import Client
from tests.system.crew import crew, pinned
from tests.system.scene import Simulate, Start, accepted, at_rest
from tests.system.workplace import Workplace, calling, heard

pytestmark = pytest.mark.anyio
PASSING = "tests.system.toolkit:PASSING"


@pytest.fixture
def work(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


async def refused_by(client: Client, question: str) -> list[Any]:
    """Ask through it until it leads: all that it has been given. What another process knows takes moments."""
    given: list[Any] = []

    async def leads() -> bool:
        given.append(await accepted(client, question))
        return bool(given[-1]["role"] == "leader")

    await eventually(leads)
    return given


@pytest.mark.parametrize("tool", ["now", "change"])
@pytest.mark.parametrize("follows", [False, True], ids=["knows nothing of it", "follows it"])
async def test_another_worker_joins_nothing_that_is_past_its_time(
    simulate: Simulate, start: Start, work: Workplace, tool: str, follows: bool
) -> None:
    """Row 12: whoever is told of an order has placed one; whoever came in time is served by any worker."""
    gateway = start(simulate(ttft=0, tps=0, tokens=20), workers=2, TOOLS=PASSING)
    question = calling("Right now", work(tool, "it", door="door"))
    async with pinned(gateway, list(crew(gateway).values())) as (one, two), Client(gateway.url) as any_of:
        chats = [await accepted(one, question)]
        if follows:
            chats.append(await accepted(two, question))
            assert chats[-1]["role"] == "follower"
        await work.filled(1)
        work.open("door")
        await one.until_status(chats[0]["id"], "ready")
        chats += await refused_by(two, question)
        chats += await refused_by(one, question)  # and those who came too late share one, as long as they may
        async with asyncio.TaskGroup() as group:
            reading = [group.create_task(any_of.stream(chat["stream_url"])) for chat in chats]
    assert {tuple(heard(stream.result().text)) for stream in reading} == {("it was found",)}
    assert work.begun == ["it"] * 3
    await at_rest(gateway)
