"""Rounds of tools before the last step of a workflow: what its answer's prompt has of them."""

from __future__ import annotations

from typing import Any

import pytest

from processing.account import account_of
from processing.caller import Caller
from processing.tools.bound import BoundRounds
from tests.fakes.tools import ANN, CACHE_TTL_S, Played, Scene, chosen, result, said
from tests.fakes.turn import FakeTurn, prompt
from tests.virtual_time import virtual

NAMES = ["sleep"]


def bench(*replies: Any, caller: Caller = ANN, limit: int = 3, **options: Any) -> tuple[Scene, BoundRounds]:
    scene = Scene(*replies, tools=(Played().sleeper(**options),), limit=limit)
    return scene, BoundRounds(scene.rounds, caller, CACHE_TTL_S)


@virtual
async def test_a_reply_without_a_choice_is_the_answer() -> None:
    """With the calls and their results in the prompt, for what may have to follow."""
    _, bound = bench(chosen(("sleep", {"say": "a"})), said("so"))
    said_then = await bound.before(FakeTurn(), prompt().body, NAMES, [])
    made = bound.bounded(said_then(prompt()))
    assert made.direct is not None
    assert made.body["messages"][-1] == result("call-0", "a")
    assert [one["tool"] for one in account_of(made.preface)["tools"]] == NAMES


@virtual
async def test_rounds_that_are_over_leave_the_answer_to_be_asked_for() -> None:
    """With all that was found."""
    _, bound = bench(chosen(("sleep", {"say": "a"})), limit=1)
    said_then = await bound.before(FakeTurn(), prompt().body, NAMES, [])
    made = said_then(prompt())
    assert (made.direct, made.body["messages"][-1]) == (None, result("call-0", "a"))


@virtual
async def test_a_form_is_asked_for_in_the_usual_way() -> None:
    """The reply had none."""
    _, bound = bench(said("so"))
    body = {**prompt().body, "response_format": {"type": "json_object"}}
    said_then = await bound.before(FakeTurn(), body, NAMES, [])
    asked = prompt()
    asked.body["response_format"] = body["response_format"]
    assert said_then(asked).direct is None


@pytest.mark.parametrize("own", ["tools", "tool_choice", "functions", "function_call"])
def test_a_client_with_tools_of_its_own_has_no_rounds_here(own: str) -> None:
    """They are its own to run."""

    @virtual
    async def asked() -> None:
        scene, bound = bench(said("so"))
        usages: list[dict[str, Any]] = []
        said_then = await bound.before(FakeTurn(), {**prompt().body, own: "x"}, NAMES, usages)
        assert (scene.model.bodies, usages, bound.talks) == ([], [], [])
        assert said_then(prompt()).body == prompt().body

    asked()


@virtual
async def test_nobody_is_asked_about_tools_that_the_caller_may_not_have() -> None:
    """A list of no tools is one that models refuse."""
    nobody = Caller("scope", "acme")
    scene, bound = bench(said("so"), caller=nobody, user_bound=True, cacheable=False)
    said_then = await bound.before(FakeTurn(), prompt().body, NAMES, [])
    assert scene.model.bodies == []
    assert said_then(prompt()).direct is None
    reply = await bound.ask(FakeTurn(), prompt().body, NAMES)
    assert reply.text == "so"
    assert "tools" not in scene.model.bodies[0]


@virtual
async def test_a_step_with_tools_and_a_form_is_asked_for_the_form() -> None:
    """What a model says among calls of tools was not asked to have it: once more, with the form."""
    scene, bound = bench(chosen(("sleep", {})), said("so"), said("{}"))
    form = {"type": "json_object"}
    reply = await bound.ask(FakeTurn(), {**prompt().body, "response_format": form}, NAMES)
    assert reply.text == "{}"
    assert [body.get("response_format") for body in scene.model.bodies] == [None, None, form]
