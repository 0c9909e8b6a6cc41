"""Tools on the real wire: what the model asks for is run, told and never lost; nothing runs for others."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.eventually import eventually
from tests.system.client import Client, text_of
from tests.system.processes import SimulatorProcess
from tests.system.prompts import answer_to
from tests.system.scene import Simulate, Start, accepted, at_rest, calls_of, held, hook_of, over, shown
from tests.system.workplace import TOOLS, Workplace, at_stage, calling, heard, statuses

pytestmark = pytest.mark.anyio

TOKENS = 20


@pytest.fixture
def simulator(simulate: Simulate) -> SimulatorProcess:
    return simulate(ttft=0, tps=0, tokens=TOKENS)


@pytest.fixture
def work(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


async def test_results_stand_in_declared_order_however_they_finish(
    simulator: SimulatorProcess, start: Start, work: Workplace
) -> None:
    """Row 69: three run at the same time and end last first; the model reads them as it asked for them."""
    gateway = start(simulator, TOOLS=TOOLS)
    names = ["first", "second", "third"]
    question = calling("Row 69", *(work("look", name, door=name) for name in names))
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        chat = await accepted(client, question)
        reading = group.create_task(client.stream(chat["stream_url"]))
        await work.filled(3)
        for left, name in enumerate(reversed(names)):
            work.open(name)
            await work.filled(2 - left)
        stream = await reading
        record = await shown(client, chat["id"], "completed")
    assert work.ended == ["third", "second", "first"]
    assert heard(stream.text) == [f"{name} was found" for name in names]
    assert "preparing:tools" in [event.json.get("stage") for event in stream.events if event.name == "status"]
    assert statuses(record) == [("look", "ok")] * 3
    assert stream.end.json["preparation"] == record["preparation"]
    assert simulator.stats()["calls"] == 2, "it chose, and what it said then is the answer"
    await at_rest(gateway)


async def test_a_failure_is_told_and_its_siblings_go_on(
    simulator: SimulatorProcess, start: Start, work: Workplace
) -> None:
    """Row 70: one fails, one times out, one is not there, one is misused: each says so, the rest is whole."""
    gateway = start(simulator, TOOLS=TOOLS)
    question = calling(
        "Row 70",
        work("look", "before", door="late"),
        work("refuse", "bad"),
        work("begin", "slow"),
        "nowhere",
        "look",
        work("look", "after"),
        tokens=20,
    )
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        chat = await accepted(client, question)
        reading = group.create_task(client.stream(chat["stream_url"]))
        await eventually(lambda: {"bad", "slow", "after"} <= set(work.ended))
        work.open("late")
        stream = await reading
        record = await shown(client, chat["id"], "completed")
        said = heard(stream.text)
        assert [said[0], said[-1]] == ["before was found", "after was found"]
        assert said[1] == "[refuse failed: out of order]"
        assert said[2] == "half of slow [begin timed out after 0.3 s; what is above is incomplete]"
        assert "there is no such tool" in said[3]
        assert "place" in said[4], "what is missing in the arguments has a name"
        assert [status for _, status in statuses(record)] == [
            "ok", "failed", "timed_out", "refused", "refused", "ok",
        ]  # fmt: skip
        await over(gateway)
        again = await client.ask(question)
    assert again.end.json["cache"] == "miss", "an answer out of half a result is not kept"
    assert work.begun.count("bad") == 2
    await at_rest(gateway)


async def test_the_same_call_by_several_runs_once(
    simulator: SimulatorProcess, start: Start, work: Workplace
) -> None:
    """Part 3: of two requests and within one, read-only twins share a run; stateful ones do not."""
    gateway = start(simulator, workers=1, TOOLS=TOOLS)
    same = work("look", "same", door="door")
    questions = [calling(f"Twins {n}", same, same) for n in range(2)]
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        reading = [group.create_task(client.ask(question)) for question in questions]
        # Both have their model's choice: whoever came after the run's end would begin another.
        await eventually(lambda: gateway.get("/pipeline")["totals"]["upstream_calls"] == 2)
        await eventually(lambda: work.begun == ["same"])
        work.open("door")
        assert [heard((await one).text) for one in reading] == [["same was found"] * 2] * 2
        assert work.begun == ["same"]
        twice = calling("Changes", work("change", "x"), work("change", "x"))
        stream = await client.ask(twice)
    assert heard(stream.text) == ["x was found"] * 2
    assert work.begun.count("x") == 2
    await at_rest(gateway)


async def test_what_changes_something_runs_one_after_the_other_beside_the_rest(
    simulator: SimulatorProcess, start: Start, work: Workplace
) -> None:
    """Part 3: stateful calls keep the order of the message; a read-only one behind them does not wait."""
    gateway = start(simulator, TOOLS=TOOLS)
    changes = [work("change", name, door=name) for name in ("one", "two", "three")]
    question = calling("In turn", *changes, work("look", "beside"))
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        reading = group.create_task(client.ask(question))
        await eventually(lambda: "beside" in work.ended)
        for name in ("three", "two", "one"):
            assert "two" not in work.begun
            work.open(name)
        stream = await reading
        await over(gateway)
        assert (await client.ask(question)).end.json["cache"] == "miss", "an effect is never served again"
    changed = [line for line in work.log if not line.endswith("beside")]
    in_turn = ["+one", "-one", "+two", "-two", "+three", "-three"]
    assert changed == in_turn * 2
    assert heard(stream.text)[-1] == "beside was found"
    await at_rest(gateway)


async def test_a_plain_request_is_one_call_of_the_model(
    simulator: SimulatorProcess, start: Start, work: Workplace
) -> None:
    """Part 1: with nothing configured, and with tools on offer to somebody who brings their own."""
    own: list[dict[str, Any]] = [{"type": "function", "function": {"name": "mine", "parameters": {}}}]
    plain, offered = start(simulator), start(simulator, TOOLS=TOOLS)
    async with Client(plain.url) as client:
        assert (await client.ask("Plain")).text == answer_to("Plain", TOKENS)
    assert calls_of(simulator, "Plain") == simulator.stats()["calls"] == 1
    simulator.reset()
    async with Client(offered.url) as client:
        choices: tuple[dict[str, Any], ...] = ({"tools": own}, {"tools": own, "tool_choice": "auto"})
        for number, choice in enumerate(choices):
            reply, frames = await client.chunks(f"Mine {number} [[sim tool=1]]", **choice)
            called = [
                call["function"]["name"]
                for frame in frames[:-1]
                for call in frame["choices"][0]["delta"].get("tool_calls", ())
                if "name" in call["function"]
            ]
            assert (reply.status, called) == (200, ["mine"]), "its calls are its own to run"
            assert simulator.stats()["calls"] == number + 1
        unused = await client.ask("No tool is needed")
    assert unused.text == answer_to("No tool is needed", TOKENS)
    assert unused.end.json.get("preparation") is None
    assert simulator.stats()["calls"] == 3, "it chose none: what it said is the answer"
    assert work.log == []


async def test_hook_plan_and_tools_come_in_this_order(
    simulator: SimulatorProcess, start: Start, work: Workplace
) -> None:
    """Part 1: the row of steps is seen from outside, and each is asked with what the one before made."""
    settings = {"PREPARE_URL": hook_of(simulator), "PREPARE_MODEL": "planner"}
    gateway = start(simulator, TOOLS=TOOLS, **settings)
    question = calling("Everything", work("look", "it", door="door"), prepare_hold="hook", hold="plan")
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        chat = await accepted(client, question)
        reading = group.create_task(client.stream(chat["stream_url"]))
        for wait, stage in (("hook", "preparing:hook"), ("plan", "preparing:planning")):
            await held(simulator, wait)
            await at_stage(client, chat["id"], stage)
            simulator.release(wait)
        await work.filled(1)
        await at_stage(client, chat["id"], "preparing:tools")
        work.open("door")
        stream = await reading
    assert heard(stream.text) == ["it was found"]
    seen = simulator.stats()
    assert (seen["calls_by_model"], seen["prepare"]["calls"]) == ({"planner": 1, "refrain-sim": 2}, 1)
    await at_rest(gateway)


async def test_rounds_are_bounded_and_the_wires_agree(
    simulator: SimulatorProcess, start: Start, work: Workplace
) -> None:
    """Part 3: a model that never has enough is asked TOOL_ROUNDS times, then it has to answer."""
    gateway = start(simulator, TOOLS=TOOLS, TOOL_ROUNDS=2)
    question = calling("Never enough", work("look", "more"), rounds=9)
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        asking = group.create_task(client.complete(question))
        _, frames = await client.chunks(question)
        whole = await asking
        stream = await client.ask(question)
    assert whole.json["choices"][0]["message"]["content"] == text_of(frames) == stream.text
    assert whole.json["refrain"]["tools"] == stream.end.json["preparation"]["tools"]
    assert heard(stream.text) == ["more was found"] * 2
    assert work.begun == ["more"] * 2
    assert simulator.stats()["calls"] == 3, "two rounds and the answer, for all three together"
    await at_rest(gateway)
