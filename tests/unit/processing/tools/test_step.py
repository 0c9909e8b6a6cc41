"""The step `tools`: what the model is asked, what becomes of the prompt, and what of its caching."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from admission import Stage
from processing.tools import Caller, Rounds, ToolStep
from runtime.errors import UpstreamError
from tests.cancellation import Moment, cancel_at_every_await
from tests.fakes.tools import ANN, CACHE_TTL_S, Chooser, Played, Scene, chosen, result, said
from tests.fakes.turn import FakeTurn, prompt
from tests.fakes.turns import settle
from tests.virtual_time import virtual

QUESTION = {"role": "user", "content": "q"}


@virtual
async def test_a_model_is_offered_the_tools_beside_what_the_request_said() -> None:
    """And a reply without one leaves the prompt as it is."""
    scene = Scene(said("no need"), tools=(Played().sleeper(),))
    asked = prompt()
    prepared = await scene.step.run(asked)
    assert replace(prepared, direct=None) == asked
    assert len(scene.model.bodies) == 1
    assert [each["function"]["name"] for each in scene.model.bodies[0]["tools"]] == ["sleep"]
    assert scene.model.bodies[0]["temperature"] == 0.5


@virtual
async def test_what_was_chosen_is_run_and_told_in_declared_order() -> None:
    """Row 69: the model's message, then one message per call, and then it may choose again."""
    scene = Scene(
        chosen(("sleep", {"seconds": 2, "say": "a"}), ("sleep", {"seconds": 1, "say": "b"}), text="I look."),
        chosen(("sleep", {"say": "c"})),
        said("that is all"),
        tools=(Played().sleeper(),),
    )
    prepared = await scene.run()
    messages = prepared.body["messages"]
    assert [message["role"] for message in messages] == [
        "user", "assistant", "tool", "tool", "assistant", "tool",
    ]  # fmt: skip
    assert messages[0] == QUESTION
    assert messages[1]["content"] == "I look."
    assert [call["id"] for call in messages[1]["tool_calls"]] == ["call-0", "call-1"]
    assert messages[2:4] == [result("call-0", "a"), result("call-1", "b")]
    assert "tools" not in prepared.body
    assert scene.model.bodies[1]["messages"] == messages[:4]
    scene.bench.assert_at_rest()


@virtual
async def test_the_rounds_are_bounded() -> None:
    """A model that never has enough is asked for its answer all the same."""
    replies = [chosen(("sleep", {"say": str(n)})) for n in range(9)]
    scene = Scene(*replies, tools=(Played().sleeper(),), limit=2)
    prepared = await scene.run()
    assert len(scene.model.bodies) == 2
    assert [m["content"] for m in prepared.body["messages"] if m["role"] == "tool"] == ["0", "1"]


@pytest.mark.parametrize("field", ["tools", "tool_choice", "functions", "function_call"])
def test_a_clients_own_tools_are_left_to_it(field: str) -> None:
    """They are passed through untouched, and the model is not asked by us; nor for a workflow."""

    @virtual
    async def untouched() -> None:
        step, body = Scene(tools=(Played().sleeper(),)).step, prompt().body
        assert step.applies(body)
        assert not step.applies({**body, field: ["x"]})
        assert not step.applies({**body, "model": "workflow:review"})

    untouched()


@virtual
async def test_without_a_tool_for_this_caller_nothing_is_asked() -> None:
    """A call that could choose nothing costs tokens and time."""
    scene = Scene(tools=(Played().sleeper(cacheable=False, user_bound=True),))
    scene.caller = Caller("scope", "acme", None)
    asked = prompt()
    assert await scene.step.run(asked) is asked
    assert scene.model.bodies == []


@virtual
async def test_the_form_of_the_answer_is_not_asked_of_the_choice() -> None:
    """Two answers, a JSON form or a stop word are the answer's; the prompt keeps them."""
    of_the_answer = {"n": 2, "response_format": {"type": "json_object"}, "stop": ["x"], "logprobs": True}
    scene = Scene(chosen(("sleep", {})), tools=(Played().sleeper(),))
    prepared = await scene.run(**of_the_answer)
    assert of_the_answer.items() <= prepared.body.items()
    assert not of_the_answer.keys() & scene.model.bodies[0].keys()


@pytest.mark.parametrize(
    ("options", "before", "after"),
    [
        ({"cacheable": True}, (True, None), (True, None)),
        ({"cacheable": True}, (False, 5.0), (False, 5.0)),
        ({"time_bound": 60.0}, (True, None), (True, 60.0)),
        ({"time_bound": 60.0}, (True, 5.0), (True, 5.0)),
        ({"time_bound": 60.0}, (True, 90.0), (True, 60.0)),
        ({"time_bound": 60.0}, (False, None), (False, 60.0)),
        ({"time_bound": 5000.0}, (True, None), (True, CACHE_TTL_S)),
        ({"time_bound": 0.0}, (True, None), (False, None)),
        ({"user_bound": True}, (True, None), (True, None)),
        ({"stateful": True}, (True, None), (False, None)),
        ({"cacheable": True, "timeout_s": 0.5}, (True, None), (False, None)),
    ],
)
def test_what_a_used_tool_makes_of_caching(
    options: dict[str, Any], before: tuple[bool, float | None], after: tuple[bool, float | None]
) -> None:
    """Row 12: it only ever shortens; nothing time-bound, with an effect or incomplete is kept too long."""

    @virtual
    async def judged() -> None:
        scene = Scene(chosen(("sleep", {})), tools=(Played().sleeper(**{"cacheable": False, **options}),))
        prepared = await scene.step.run(replace(prompt(), store=before[0], ttl_s=before[1]))
        assert (prepared.store, prepared.ttl_s) == after

    judged()


@virtual
async def test_a_tool_that_was_not_used_shortens_nothing() -> None:
    """Nor one that was asked for with arguments that it does not take."""
    played = Played()
    bound = played.sleeper("bound", cacheable=False, time_bound=0.0)
    scene = Scene(chosen(("sleep", {}), ("bound", {"seconds": "x"})), tools=(played.sleeper(), bound))
    prepared = await scene.run()
    assert (prepared.store, prepared.ttl_s) == (True, None)
    assert "was not run" in prepared.body["messages"][-1]["content"]


@virtual
async def test_the_shortest_of_all_rounds_holds() -> None:
    """An answer is as old as the first of its parts to go."""
    played = Played()
    tools = tuple(played.sleeper(f"t{ttl}", cacheable=False, time_bound=float(ttl)) for ttl in (300, 60, 120))
    scene = Scene(chosen(("t300", {}), ("t60", {})), chosen(("t120", {})), tools=tools)
    assert (await scene.run()).ttl_s == 60


@virtual
async def test_a_failing_model_fails_the_preparation() -> None:
    """Rule 15: no answer without the tools that it was meant to have."""
    error = UpstreamError()
    scene = Scene(chosen(("sleep", {})), error, tools=(Played().sleeper(),))
    with pytest.raises(UpstreamError) as raised:
        await scene.run()
    assert raised.value is error
    scene.bench.assert_at_rest()


@virtual
async def test_waiting_tools_move_with_their_flight() -> None:
    """Who joins a waiting flight brings its own turn, to all that it waits for."""
    played = Played()
    scene = Scene(
        *[chosen(("sleep", {"say": name})) for name in ("first", "batch", "other")],
        tools=(played.sleeper(),),
        limit=1,
    )
    first, batch, other = FakeTurn(0), FakeTurn(30), FakeTurn(10)
    async with asyncio.TaskGroup() as group:
        for turn in (first, batch, other):
            group.create_task(scene.step.run(prompt("q", turn)))
            await settle()
        assert batch.admission is not None
        assert (batch.admission.permit, batch.admission.position, batch.admission.told(2)) == (None, 2, 2)
        batch.order = 5
        batch.admission.reorder()
        assert batch.admission.position == 1
        batch.admission.withdraw()
    assert [entry for entry in played.log if entry[0] == "+"] == ["+first", "+batch", "+other"]
    assert [turn.admission for turn in (first, batch, other)] == [None] * 3


@virtual
async def test_a_flight_that_was_let_go_keeps_its_new_place() -> None:
    """Another process makes it now: what the old work leaves behind must not overwrite that."""
    played = Played()
    scene = Scene(chosen(("sleep", {})), tools=(played.sleeper(),))
    stage, turn = Stage("leaders", 1), FakeTurn(0)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(scene.step.run(prompt("q", turn)))
        await settle()
        turn.admission = place = stage.admit(turn)
        task.cancel()
    assert turn.admission is place
    place.withdraw()


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("moment", ["waiting", "granted"])
def test_a_cancelled_step_leaves_nothing(moment: Moment, again: bool) -> None:
    """Row 76: while the model is asked, while tools wait and run, and in between."""

    @virtual
    async def cancelled_everywhere() -> None:
        played = Played()
        scene = Scene(tools=(played.sleeper(),))

        async def run() -> None:
            scene.model = Chooser(chosen(("sleep", {"say": "a"}), ("sleep", {"say": "b"})))
            rounds = Rounds(scene.bench.toolbox, scene.model, 2)
            await ToolStep(rounds, lambda prompt: ANN, CACHE_TTL_S).run(prompt())

        async def check(n: int) -> None:
            await asyncio.sleep(30)
            scene.bench.assert_at_rest()
            assert played.begun == played.cleaned

        assert await cancel_at_every_await(run, check, moment=moment, again=again) >= 3

    cancelled_everywhere()


@virtual
async def test_a_workflows_step_gets_its_answer_with_tools() -> None:
    """`Rounds.ask`: the named tools alone, and what the model says when it has enough is the answer."""
    played = Played()
    scene = Scene(chosen(("sleep", {})), said("so it is"), tools=(played.sleeper(), played.sleeper("other")))
    turn = FakeTurn(0)
    reply, talk = await scene.rounds.ask(turn, prompt().body, ["sleep"], ANN)
    assert reply.text == "so it is"
    assert [tool["function"]["name"] for tool in scene.model.bodies[0]["tools"]] == ["sleep"]
    assert (talk.rounds, list(talk.used)) == (1, ["sleep"])


@virtual
async def test_when_the_rounds_of_a_workflows_step_are_over_it_is_asked_for_its_answer() -> None:
    """Once more, and without tools: it has to say something now."""
    scene = Scene(chosen(("sleep", {})), said("so it is"), tools=(Played().sleeper(),), limit=1)
    reply, _ = await scene.rounds.ask(FakeTurn(0), prompt().body, ["sleep"], ANN)
    assert reply.text == "so it is"
    assert "tools" not in scene.model.bodies[1]


@virtual
async def test_an_answer_with_tools_costs_what_all_its_calls_cost() -> None:
    """A step's record says what it cost: the calls that chose tools are paid for like the last one."""
    played = Played()
    choosing = msgspec.structs.replace(
        chosen(("sleep", {})), usage={"prompt_tokens": 5, "completion_tokens": 2}
    )
    nonsense = msgspec.structs.replace(choosing, usage={"prompt_tokens": "many", "completion_tokens": 1})
    last = msgspec.structs.replace(said("done"), usage={"prompt_tokens": 9, "completion_tokens": 4})
    for limit in (2, 3):  # the answer of the last round, and one more call
        scene = Scene(choosing, nonsense, last, tools=(played.sleeper(),), limit=limit)
        reply, _ = await scene.rounds.ask(FakeTurn(0), prompt().body, ["sleep"], ANN)
        assert reply.text == "done"
        assert reply.usage == {"prompt_tokens": 14, "completion_tokens": 7}
    scene = Scene(said("silent"), tools=(played.sleeper(),))
    reply, _ = await scene.rounds.ask(FakeTurn(0), prompt().body, ["sleep"], ANN)
    assert reply.usage is None, "a model that tells nothing has told nothing"
