"""Where a round's calls are while they wait, blocking tools from within, and an operator's slips."""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Iterator
from typing import cast

import pytest

from admission import Admission, Stage
from processing.files.problems import BadFile
from processing.preparer import Turn
from processing.tools import tool
from processing.tools.loading import load
from processing.tools.module import tools_of
from processing.tools.places import Places
from processing.tools.results import Output
from processing.tools.running import _block
from processing.tools.tool import MAX_ARGUMENTS, ArgumentsRefused
from processing.twins import Company
from tests.fakes.endpoints import FakeHttp
from tests.fakes.tools import ANN, Bench, Chooser, Played, Scene, chosen, said
from tests.fakes.turn import FakeTurn, prompt
from tests.unit.processing.tools.test_direct import Speaker, direct_in
from tests.unit.processing.tools.test_loading import ENVIRONMENT, entry
from tests.virtual_time import virtual


@virtual
async def test_a_round_shows_the_best_of_its_places() -> None:
    """A waiting client is told how far it is; what has left, or runs, counts no more."""
    stage, other = Stage("s", 1), Stage("o", 1)
    holders = [stage.admit(FakeTurn(0)), other.admit(FakeTurn(0)), other.admit(FakeTurn(1))]
    companies = [Company(), Company(), Company()]
    places = Places()
    assert (places.position, places.permit, places.told(7)) == (0, None, 7)
    for company, queue in zip(companies, (other, stage, None), strict=True):
        company.enter(FakeTurn(5))
        company.admission = None if queue is None else queue.admit(company)
    with places.kept(companies[0]), places.kept(companies[2]):
        assert places.position == 2
        with places.kept(companies[1]):
            assert places.position == 1
        assert places.position == 2
        places.withdraw()
        assert other.stats().waiting == 2
    assert places.position == 0
    for admission in (*holders, *(company.admission for company in companies[:2])):
        admission.withdraw()


def test_a_place_comes_back_unless_the_turn_has_another() -> None:
    """A flight that was let go meanwhile keeps what it has now."""
    turn, places = FakeTurn(), Places()
    before = turn.admission = cast(Admission, object())
    with places.stand_in(turn):
        assert turn.admission is cast(Admission, places)
    assert turn.admission is before
    with places.stand_in(turn):
        turn.admission = None
    assert turn.admission is None


class Watched(Played):
    """A tool that looks what stands in the place of the turn for which it runs."""

    def __init__(self, turn: Turn) -> None:
        super().__init__()
        self.turn = turn
        self.seen: list[type] = []
        self.tool = tool(self.look, name="look", cacheable=True)

    async def look(self) -> str:
        """Looks."""
        self.seen.append(type(self.turn.admission))
        return "seen"


@virtual
async def test_a_step_of_a_workflow_shows_no_tool_where_its_calls_are_counted() -> None:
    """What stands there is a call of the model, against the bound of the run."""
    turn = FakeTurn()
    watched = Watched(turn)
    scene = Scene(chosen(("look", {})), tools=(watched.tool,))
    await scene.rounds.ask(turn, prompt().body, ["look"], ANN)
    scene = Scene(chosen(("look", {})), tools=(watched.tool,))
    await scene.rounds.run(turn, prompt().body, [watched.tool], ANN)
    assert watched.seen == [type(None), Places]
    assert turn.admission is None


@virtual
async def test_the_last_call_of_a_step_has_all_that_was_said_and_its_own_parameters() -> None:
    """It is the step's answer: asked as the step says, with what the tools have found."""
    scene = Scene(chosen(("sleep", {})), said("so"), tools=(Played().sleeper(),), limit=1)
    body = {**prompt().body, "stop": "END"}
    await scene.rounds.ask(FakeTurn(), body, ["sleep"], ANN)
    last = scene.model.bodies[1]
    assert [message["role"] for message in last["messages"]] == ["user", "assistant", "tool"]
    assert (last["model"], last["temperature"], last["stop"]) == ("m", 0.5, "END")


@virtual
async def test_of_two_that_stream_the_one_that_was_called_answers() -> None:
    """Whichever was registered first."""
    first, second = Speaker("1"), Speaker("2")
    second.tool = tool(second.speak, name="second", time_bound=5.0, direct_stream=True)
    scene = Scene(chosen(("second", {})), tools=(first.tool, second.tool))
    assert repr(direct_in(await scene.run())) == "<DirectAnswer second>"


def test_a_blocking_tool_puts_out_what_it_returns() -> None:
    """In its thread; here it is called from the test itself, for a thread's lines are not traced."""

    def text(n: int) -> str:
        """Text."""
        return f"n={n}"

    output = Output()
    _block(tool(text, cacheable=True), {"n": 3}, output, threading.Event())
    assert output.text == "n=3"


@pytest.mark.parametrize(("left", "text"), [(False, "one two "), (True, "one ")])
def test_a_blocking_generator_ends_when_nobody_waits(left: bool, text: str) -> None:
    """After the piece that it is at, and its `finally` runs either way."""
    ended = []

    def count() -> Iterator[str]:
        """Counts."""
        try:
            yield "one "
            yield "two "
        finally:
            ended.append(True)

    output, event = Output(), threading.Event()
    if left:
        event.set()
    _block(tool(count, cacheable=True), {}, output, event)
    assert (output.text, ended) == (text, [True])


def faults(text: str, **environment: str) -> list[str]:
    with pytest.raises(BadFile) as bad:
        load("tools.yaml", text, {**ENVIRONMENT, **environment}, FakeHttp())
    return str(bad.value).splitlines()


@pytest.mark.parametrize("tools", ["3", "{a: 1}", "x", "[]", "null"])
def test_what_is_no_list_of_tools_is_one_problem(tools: str) -> None:
    """A mapping of names is the likeliest slip: it is not read as if it were entries."""
    assert faults(f"tools: {tools}") == ["tools.yaml:1: tools is a list with at least one entry"]


@pytest.mark.parametrize("value", ["caf\u00e9", "a\tb", "a\x7f"])
def test_a_header_carries_no_such_value(value: str) -> None:
    """Found at the start, not with the first call; the value itself is a secret."""
    [said] = faults(entry("headers:\n  X-A: KEY"), KEY=value)
    assert said.endswith("tool 'a': the variable KEY holds what no header may carry")


def test_a_functions_arguments_are_read_up_to_their_length_and_three_faults_are_told() -> None:
    """As for endpoints."""

    async def find(a: str = "", b: int = 0, c: int = 0, d: int = 0) -> str:
        """Finds."""
        return a

    reader = tool(find, cacheable=True).reader
    most = '{"a": "' + "x" * (MAX_ARGUMENTS - 9) + '"}'
    assert len(most) == MAX_ARGUMENTS
    assert reader.read(most).values["a"] == "x" * (MAX_ARGUMENTS - 9)
    with pytest.raises(ArgumentsRefused, match="longer than"):
        reader.read(most + " ")
    for wrong, more in (("bcd", None), ("abcd", "; and 1 more")):
        with pytest.raises(ArgumentsRefused) as why:
            reader.read("{" + ", ".join(f'"{name}": []' for name in wrong) + "}")
        assert str(why.value).count(": ") == 3
        assert str(why.value).endswith(more or "integer")


@virtual
async def test_rounds_are_asked_within_their_callers_scope() -> None:
    """Who may share a call is the request's matter, also between two rounds."""
    scopes: list[str] = []

    class Noting(Chooser):
        async def ask(self, turn: Turn, body: object, scope: str) -> object:  # type: ignore[override]
            scopes.append(scope)
            return await super().ask(turn, cast(dict[str, object], body), scope)

    scene = Scene(tools=(Played().sleeper(),), limit=1)
    scene.rounds._calls = cast(Chooser, Noting(chosen(("sleep", {}))))
    await scene.rounds.ask(FakeTurn(), prompt().body, ["sleep"], ANN)
    assert scopes == [ANN.scope] * 2


def test_the_stages_of_a_toolbox_are_that_of_all_and_one_for_each() -> None:
    """Panels and metrics go by these names."""
    toolbox = Bench(Played().sleeper("a"), Played().sleeper("b")).toolbox
    assert [stage.name for stage in toolbox.stages] == ["tools", "tool:a", "tool:b"]


@pytest.mark.parametrize("found", [3, "text", {"a": 1}, print])
def test_what_is_no_list_in_a_module_is_no_list_of_tools(
    found: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address is a slip away from any other name of the module."""
    made = types.ModuleType("played_elsewhere")
    vars(made)["FOUND"] = found
    monkeypatch.setitem(sys.modules, "played_elsewhere", made)
    with pytest.raises(ValueError, match="played_elsewhere has no list of tools FOUND"):
        tools_of("played_elsewhere:FOUND")
