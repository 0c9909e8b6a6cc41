"""Preparation in progress, of one process and of all: steps, tools, and what the departed leave."""

from __future__ import annotations

import threading
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from app.gateway import Gateway
from app.instance import metrics, pipeline
from app.preparation_reading import PreparationReading, ToolReading, add_preparations, preparation_of
from app.readings import Instance, bury, packed, reading, unpacked
from processing.tools import tool
from processing.tools.asked import Call
from processing.tools.toolbox import At
from tests.fakes import readings
from tests.fakes.asgi import Peer
from tests.fakes.eventually import eventually
from tests.fakes.running_app import running_app
from tests.fakes.tools import ANN
from tests.fakes.turn import FakeTurn
from tests.fakes.upstream import Gate, ScriptedUpstream, answer

pytestmark = pytest.mark.anyio


def tool_reading(name: str = "weather", **more: int) -> ToolReading:
    known = {"limit": 2, "in_use": 1, "waiting": 3, "waiting_for_rate": 4, "left_threads": 1}
    return ToolReading(name, **{**known, "calls": 5, "shared": 2, **more})


def preparing(*tools: ToolReading, **steps: int) -> PreparationReading:
    return PreparationReading(steps, list(tools))


def test_it_adds_up_over_processes() -> None:
    """A limit is each process's own, so two have twice as much; a tool that only one has is shown as well."""
    both = add_preparations(
        [
            preparing(tool_reading(), hook=1, tools=2),
            preparing(tool_reading(), tool_reading("search"), tools=1),
        ]
    )
    assert both.steps == {"hook": 1, "tools": 3}
    weather, search = both.tools
    assert weather == ToolReading("weather", 4, 2, 6, 8, 2, 10, 4)
    assert search == tool_reading("search")


def test_it_survives_the_line_to_the_parent() -> None:
    """As everything that is shown."""
    some = readings.reading(1, preparation=preparing(tool_reading(), hook=1))
    assert unpacked(packed(some)) == some


def test_the_departed_leave_what_they_counted() -> None:
    """Counters never go back, and no slot of a dead process is shown as held."""
    alive = readings.reading(1, preparation=preparing(tool_reading(), hook=1))
    departed = bury(None, readings.reading(2, preparation=preparing(tool_reading(), tools=7)))
    departed = bury(departed, readings.reading(3, preparation=preparing(tool_reading("search"), tools=7)))
    shown = pipeline(Instance([alive], departed))["preparation"]
    assert shown["steps"] == {"hook": 1}
    weather, search = shown["tools"]
    assert weather == {
        "name": "weather", "limit": 2, "in_use": 1, "waiting": 3, "waiting_for_rate": 4, "left_threads": 1,
        "calls": 10, "shared": 4,
    }  # fmt: skip
    assert search == {
        "name": "search", "limit": 0, "in_use": 0, "waiting": 0, "waiting_for_rate": 0, "left_threads": 0,
        "calls": 5, "shared": 2,
    }  # fmt: skip


def shown_by(gateway: Gateway) -> dict[str, Any]:
    return pipeline(Instance([reading(gateway)]))


async def test_tools_have_a_stage_where_there_are_tools() -> None:
    """Two tools: the numbers of their stage, of each of them, and of the scrape are the same."""
    async with running_app(tools="tests.fakes.some_tools:TOOLS", max_concurrent_tools=7) as app:
        gateway: Gateway = app.state.gateway
        shown = shown_by(gateway)
        stage = shown["stages"][-1]
        assert (stage["name"], stage["scope"], stage["capacity"]) == ("tools", "process", 7)
        assert [one["name"] for one in shown["preparation"]["tools"]] == ["letters", "clock"]
        toolbox = gateway.preparing.toolbox
        for number in range(2):
            calls = [Call("c", "clock", "{}"), Call("d", "clock", "{}"), Call("e", f"none{number}", "{}")]
            await toolbox.run(calls, toolbox.for_caller(ANN), ANN, At(FakeTurn()))
        shown = shown_by(gateway)
        clock = shown["preparation"]["tools"][1]
        assert (clock["calls"], clock["shared"], clock["in_use"]) == (4, 2, 0)
        assert shown["totals"]["tool_calls"] == 6
        assert shown["totals"]["tool_calls_shared"] == 2
        assert shown["stages"][-1]["admitted"] == 2
        scrape = metrics(Instance([reading(gateway)])).decode()
        for line in (
            'refrain_stage_admitted_total{stage="tools"} 2.0',
            'refrain_stage_wait_seconds_count{stage="tools"} 2.0',
            'refrain_tool_calls_total{status="ok",tool="clock"} 4.0',
            'refrain_tool_calls_total{status="failed",tool="letters"} 0.0',
            'refrain_tool_calls_total{status="refused",tool="unknown"} 2.0',
        ):
            assert line in scrape


async def test_the_step_of_a_broadcast_is_shown_while_it_prepares() -> None:
    """Row 81: whoever looks sees what an answer waits for; afterwards there is no step any more."""
    gate = Gate()
    async with (
        ScriptedUpstream([[gate, *answer("no tool is needed")]]) as upstream,
        running_app(upstream.base_url, tools="tests.fakes.some_tools:TOOLS") as app,
    ):
        gateway: Gateway = app.state.gateway
        body = b'{"model": "m", "message": "q"}'
        assert (await Peer("POST", "/chat", body=body).call(app)).status == 202
        await upstream.until(lambda: any(one.method == "POST" for one in upstream.requests))
        shown = shown_by(gateway)
        assert shown["preparation"]["steps"] == {"tools": 1}
        assert [(one["phase"], one["step"]) for one in shown["broadcasts"]] == [("preparing", "tools")]
        gate.open()
        await eventually(lambda: shown_by(gateway)["broadcasts"][0]["phase"] == "idle")
        shown = shown_by(gateway)
        assert shown["preparation"]["steps"] == {}
        assert "step" not in shown["broadcasts"][0]


async def test_a_thread_that_was_left_is_seen_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 78: it keeps its slot, and whoever looks sees why."""
    leave = threading.Event()

    def stuck() -> str:
        """Waits."""
        leave.wait(30)
        return "late"

    monkeypatch.setattr(
        "tests.fakes.some_tools.TOOLS", [tool(stuck, cacheable=True, timeout_s=0.05, limit=1)]
    )
    async with running_app(tools="tests.fakes.some_tools:TOOLS") as app, AsyncExitStack() as stack:
        stack.callback(leave.set)
        gateway: Gateway = app.state.gateway
        toolbox = gateway.preparing.toolbox
        call = [Call("c", "stuck", "{}")]
        await toolbox.run(call, toolbox.for_caller(ANN), ANN, At(FakeTurn()))
        (one,) = preparation_of(gateway).tools
        assert (one.left_threads, one.in_use, one.calls) == (1, 1, 1)
        assert "refrain_tool_left_threads 1.0" in metrics(Instance([reading(gateway)])).decode()
        leave.set()
        await eventually(lambda: not preparation_of(gateway).tools[0].left_threads)
        assert "refrain_tool_left_threads 0.0" in metrics(Instance([reading(gateway)])).decode()


async def test_workflows_are_counted_from_zero(tmp_path: Path) -> None:
    """A rate has to see the first step that fails, of a process that has run none."""
    (tmp_path / "f.yaml").write_text(
        "name: f\npattern: pipeline\nsteps: [{name: a, prompt: x}, {name: b, prompt: y}]"
    )
    async with running_app(workflows=tmp_path, workflow_model="m") as app:
        scrape = metrics(Instance([reading(app.state.gateway)])).decode()
        for step in "ab":
            at = f'{{status="failed",step="{step}",workflow="f"}}'
            assert f"refrain_workflow_steps_total{at} 0.0" in scrape
        assert 'stage="tools"' not in scrape


async def test_who_waits_for_a_rate_waits_for_no_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    """More slots would not help it: whoever looks has to see which of the two is short."""

    async def seldom() -> str:
        """Once in a while."""
        return "once"

    some = [tool(seldom, stateful=True, rate=0.001, burst=1)]
    monkeypatch.setattr("tests.fakes.some_tools.TOOLS", some)
    async with running_app(tools="tests.fakes.some_tools:TOOLS") as app:
        gateway: Gateway = app.state.gateway
        toolbox = gateway.preparing.toolbox
        calls = [Call("c", "seldom", "{}"), Call("d", "seldom", "{}")]
        work = toolbox.run(calls, toolbox.for_caller(ANN), ANN, At(FakeTurn()))
        task = gateway.supervisor.spawn("round", _ignored(work))
        await eventually(lambda: preparation_of(gateway).tools[0].waiting_for_rate == 1)
        (one,) = preparation_of(gateway).tools
        assert (one.in_use, one.waiting, one.calls) == (0, 0, 1)
        task.cancel()
        await eventually(lambda: preparation_of(gateway).tools[0].waiting_for_rate == 0)


async def _ignored(work: Coroutine[Any, Any, Any]) -> None:
    await work
