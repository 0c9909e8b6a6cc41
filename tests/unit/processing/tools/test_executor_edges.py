"""A call's tries, what it is called with, and the figures in its log lines."""

from __future__ import annotations

import asyncio

import pytest

from processing.caller import Caller
from processing.tools import Toolbox, tool
from processing.tools.bound import BoundRounds
from processing.tools.toolbox import At
from runtime.supervisor import Supervisor
from tests.fakes.tools import ANN, Bench, Played, Scene, call, said
from tests.fakes.turn import FakeTurn, prompt
from tests.virtual_time import virtual


@virtual
async def test_a_tool_that_asks_who_calls_has_its_arguments_too() -> None:
    """The caller is no argument of the model's, and takes no place of one."""

    async def letters(about: str, caller: Caller) -> str:
        """Finds letters."""
        return f"{caller.user}: {about}"

    bench = Bench(tool(letters, user_bound=True))
    assert (await bench.one("letters", about="rent")).text == f"{ANN.user}: rent"


@virtual
async def test_a_back_off_is_drawn_from_nothing_up() -> None:
    """Full jitter: many who failed together do not come back together. Doubled each time, up to a bound."""
    drawn: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return low

    async def broken() -> str:
        """Breaks."""
        raise ConnectionError

    tools = [tool(broken, cacheable=True, retries=5)]
    toolbox = Toolbox(tools, slots=1, spawn=Supervisor().spawn, uniform=uniform)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await toolbox.run([call("broken")], toolbox.for_caller(ANN), ANN, At(FakeTurn()))
    assert drawn == [(0.0, high) for high in (0.25, 0.5, 1.0, 2.0, 4.0)]
    assert loop.time() == began
    toolbox.close()


def test_times_are_told_in_milliseconds(caplog: pytest.LogCaptureFixture) -> None:
    """Row 81: a line of a log is read by people, and a quick tool's time is not 0."""

    @virtual
    async def runs() -> None:
        bench = Bench(Played().sleeper(limit=1))
        await bench.run(call("sleep", seconds=1.23456), call("sleep", "d", seconds=2.34567))

    with caplog.at_level("INFO", "refrain.tools"):
        runs()
    fields = [vars(record) for record in caplog.records]
    assert [each["waited_s"] for each in fields if "waited_s" in each] == [0, 1.235]
    assert [each["ran_s"] for each in fields if "ran_s" in each] == [1.235, 2.346]


@virtual
async def test_a_step_of_a_workflow_gets_the_answer() -> None:
    """And what was used on the way is kept with the flight."""
    scene = Scene(said("so it is"), tools=(Played().sleeper(),))
    bound = BoundRounds(scene.rounds, ANN, 10.0)
    assert (await bound.ask(FakeTurn(), prompt().body, ["sleep"])).text == "so it is"
    assert len(bound.talks) == 1


def test_what_the_model_reads_of_a_function_has_no_titles() -> None:
    """pydantic makes one for everything: tokens that say nothing."""

    async def find(about: str, most: int = 3) -> str:
        """Finds."""
        return f"{about} {most}"

    assert tool(find, cacheable=True).offered["function"]["parameters"] == {
        "type": "object",
        "properties": {"about": {"type": "string"}, "most": {"type": "integer", "default": 3}},
        "required": ["about"],
        "additionalProperties": False,
    }
