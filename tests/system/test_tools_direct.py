"""Row 72: a tool that gives the answer itself; what it cannot give, the model does."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.system.client import Client
from tests.system.processes import SimulatorProcess
from tests.system.prompts import prompt
from tests.system.scene import Simulate, Start, accepted, at_rest, filled, held, together
from tests.system.workplace import TOOLS, Workplace, calling, heard

pytestmark = pytest.mark.anyio


@pytest.fixture
def simulator(simulate: Simulate) -> SimulatorProcess:
    return simulate(ttft=0, tps=0, tokens=20)


@pytest.fixture
def work(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


def sung(name: str) -> str:
    return "".join(f"{name} {line}\n" for line in range(3))


async def test_the_tools_own_words_are_the_answer(
    simulator: SimulatorProcess, start: Start, work: Workplace
) -> None:
    """Row 72: pieces come as the tool makes them, to all readers, without a stream or a synthesis."""
    gateway = start(simulator, TOOLS=TOOLS, MAX_CONCURRENT_LLM_STREAMS=1)
    question = calling("Sing", work("sing", "song", door="door"))
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        holder = await accepted(client, prompt("Has the only stream", hold="gate"), tool_choice="none")
        holding = group.create_task(client.stream(holder["stream_url"]))
        await held(simulator, "gate")
        simulator.reset()
        chat, follower = [await accepted(client, question) for _ in range(2)]
        following = group.create_task(client.stream(follower["stream_url"]))
        async with client.listening(chat["stream_url"]) as (_, events, _):
            async for event in events:
                if event.name == "delta":
                    assert event.json["text"] == "song 0\n", (
                        "the first line, while the tool waits for its door"
                    )
                    break
            work.open("door")
            rest = "".join([event.json["text"] async for event in events if event.name == "delta"])
        assert "song 0\n" + rest == (await following).text == sung("song")
        assert simulator.stats()["calls"] == 1, "it chose the tool; nobody was asked to repeat it"
        simulator.release("gate")
        await holding
        whole = await client.complete(question)
        assert whole.json["choices"][0]["message"]["content"] == sung("song")
        assert whole.json["choices"][0]["finish_reason"] == "stop"
        assert "hit" in whole.headers["cache-status"]
    assert work.begun == ["song"]
    await at_rest(gateway)


async def test_a_tool_that_fails_before_its_first_word_leaves_the_answer_to_the_model(
    simulator: SimulatorProcess, start: Start, work: Workplace
) -> None:
    """Row 72: the model is told of the failure and answers; that answer is not kept."""
    gateway = start(simulator, TOOLS=TOOLS)
    question = calling("Sing?", work("sing", "croak", fails=0))
    async with Client(gateway.url) as client:
        for _ in range(2):
            stream = await client.ask(question)
            assert (stream.end.name, stream.end.json["cache"]) == ("done", "miss")
            assert heard(stream.text) == ["[sing failed: it gave no answer]"]
            await at_rest(gateway)
        misused = await client.ask(calling("Sing what?", "sing"))
    assert heard(misused.text) == ["[sing failed: it gave no answer]"]
    assert work.begun == ["croak"] * 2
    assert simulator.stats()["calls"] == 3 * 2, "it chose, and it answered"


async def test_a_tool_that_breaks_off_is_a_broken_answer(
    simulator: SimulatorProcess, start: Start, work: Workplace
) -> None:
    """Row 72: after the first word there is no other way: it fails, keeps its text, and is not stored."""
    gateway = start(simulator, TOOLS=TOOLS)
    question = calling("Sing on", work("sing", "cough", fails=1))
    async with Client(gateway.url) as client:
        streams = await together(client.ask(question) for _ in range(2))
        reply = await client.complete(question)
    assert [(one.end.name, one.end.json["code"]) for one in streams] == [("failed", "upstream_truncated")] * 2
    assert [one.text for one in streams] == ["cough 0\n"] * 2
    assert reply.status == 502
    await at_rest(gateway)


async def test_among_others_it_is_a_tool_like_any(
    simulator: SimulatorProcess, start: Start, work: Workplace
) -> None:
    """Row 72: called beside another tool, its words are a result, and the model writes the answer."""
    gateway = start(simulator, TOOLS=TOOLS)
    question = calling("Sing and look", work("sing", "la"), work("look", "it"))
    async with Client(gateway.url) as client:
        stream = await client.ask(question)
    assert heard(stream.text) == [" ".join(sung("la").split()), "it was found"]
    assert simulator.stats()["calls"] == 2
    await at_rest(gateway)


async def test_it_begins_when_somebody_listens(
    simulator: SimulatorProcess, start: Start, work: Workplace
) -> None:
    """Row 72: prepared and not listened to, it holds no slot; the tool is called with the first reader."""
    gateway = start(simulator, TOOLS=TOOLS, MAX_CONCURRENT_TOOLS=1)
    async with Client(gateway.url) as client:
        chat = await accepted(client, calling("Later", work("sing", "late")))
        await client.until_status(chat["id"], "ready")
        assert (await client.ask(calling("Meanwhile", work("look", "it")))).end.name == "done"
        assert work.begun == ["it"]
        assert (await client.stream(chat["stream_url"])).text == sung("late")
        await filled(gateway, "llm_streams", 0, 0)
    await at_rest(gateway)
