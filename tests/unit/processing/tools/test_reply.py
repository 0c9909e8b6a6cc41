"""What the model says when it chooses no more tools is the answer: nobody is asked the same twice."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from processing.account import account_of
from processing.calls import Reply
from processing.preparer import Prompt
from processing.ready import Ready
from tests.fakes.tools import ANN, Played, Scene, chosen, said
from tests.fakes.turn import FakeTurn, prompt
from tests.virtual_time import virtual
from upstream.fold import completion

USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


def answer_in(prompt: Prompt) -> dict[str, Any]:
    assert isinstance(prompt.direct, Ready)
    found: dict[str, Any] = msgspec.json.decode(completion(prompt.direct.chunks))
    return found


@virtual
async def test_a_reply_without_a_tool_is_the_answer() -> None:
    """One call of the model, as without tools; its usage and whatever else it said are kept."""
    message = {"role": "assistant", "content": "No need.", "reasoning_content": "Hm.", "tool_calls": None}
    scene = Scene(Reply(message, "stop", USAGE), tools=(Played().sleeper(),))
    prepared = await scene.run()
    answer = answer_in(prepared)
    assert answer["choices"][0]["message"] == {
        "role": "assistant",
        "content": "No need.",
        "reasoning_content": "Hm.",
    }
    assert (answer["choices"][0]["finish_reason"], answer["usage"], answer["model"]) == ("stop", USAGE, "m")
    assert (len(scene.model.bodies), prepared.preface) == (1, ())


@virtual
async def test_so_is_the_one_after_the_last_tool() -> None:
    """Kept as long as the tools allow, with an account of them; should it be lost, the usual way has them."""
    bound = Played().sleeper(cacheable=False, time_bound=60.0)
    scene = Scene(chosen(("sleep", {"say": "a"})), said("It is a."), tools=(bound,))
    prepared = await scene.run()
    assert answer_in(prepared)["choices"][0]["message"]["content"] == "It is a."
    assert (prepared.ttl_s, prepared.store) == (60.0, True)
    assert [each["tool"] for each in account_of(prepared.preface)["tools"]] == ["sleep"]
    assert prepared.direct is not None
    assert prepared.direct.otherwise.body["messages"][-1]["content"] == "a"


@virtual
async def test_when_the_rounds_are_over_the_model_is_asked_for_its_answer() -> None:
    """It has said nothing yet."""
    scene = Scene(chosen(("sleep", {})), tools=(Played().sleeper(),), limit=1)
    assert (await scene.run()).direct is None


@pytest.mark.parametrize(
    "asked",
    [{"n": 2}, {"response_format": {"type": "json_object"}}, {"stop": ["x"]}, {"logprobs": True}],
)
def test_a_form_that_the_reply_was_not_asked_for_is_asked_for(asked: dict[str, Any]) -> None:
    """Two answers, a JSON form or a stop word are the answer's alone."""

    @virtual
    async def formed() -> None:
        scene = Scene(said("No need."), tools=(Played().sleeper(),))
        assert (await scene.run(**asked)).direct is None
        assert (await Scene(said("No need."), tools=(Played().sleeper(),)).run(n=1, stop=None)).direct

    formed()


@pytest.mark.parametrize(
    ("reply", "taken"),
    [
        (said(""), False),
        (said(" \n"), False),
        (Reply({"content": "Cut."}, "length", None), True),
        (Reply({"content": "Bad."}, "content_filter", None), False),
        (Reply({"content": "Odd."}, None, None), False),
    ],
)
def test_only_a_whole_answer_is_one(reply: Reply, taken: bool) -> None:
    """Nothing, or something that is no end: the model is asked once more, and its stream will say why."""

    @virtual
    async def judged() -> None:
        prepared = await Scene(reply, tools=(Played().sleeper(),)).run()
        assert (prepared.direct is not None) is taken

    judged()


@virtual
async def test_calls_that_the_clients_limit_has_cut_are_asked_for_again() -> None:
    """`max_tokens: 5` is a limit of the answer: half the arguments of a tool are no arguments."""
    cut = chosen(("sleep", {}))
    cut = Reply({**cut.message, "tool_calls": [half_of(cut)]}, "length", None)
    scene = Scene(cut, chosen(("sleep", {"say": "a"})), said("It is a."), tools=(Played().sleeper(),))
    prepared = await scene.run(max_tokens=5)
    assert [body.get("max_tokens") for body in scene.model.bodies] == [5, None, 5]
    assert answer_in(prepared)["choices"][0]["message"]["content"] == "It is a."
    assert prepared.body["max_tokens"] == 5


def half_of(reply: Reply) -> dict[str, Any]:
    call: dict[str, Any] = reply.message["tool_calls"][0]
    return {**call, "function": {**call["function"], "arguments": '{"say": "a'}}


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_only_calls_that_a_limit_of_the_client_has_cut_are_asked_for_again(name: str) -> None:
    """A second call for nothing would be paid for by every request; what both used is told."""
    whole, text, used = chosen(("sleep", {})), said("Cut"), {"prompt_tokens": 1, "completion_tokens": 1}
    cut, cut_text = (Reply(each.message, "length", used) for each in (whole, text))
    cases = [(cut, {name: 5}, 2), (cut, {}, 1), (whole, {name: 5}, 1), (cut_text, {name: 5}, 1)]

    @virtual
    async def asked(reply: Reply, limit: dict[str, int], times: int) -> None:
        scene = Scene(reply, Reply(text.message, "stop", used), tools=(Played().sleeper(),), limit=1)
        talk = await scene.rounds.run(
            FakeTurn(), {**prompt().body, **limit}, scene.bench.toolbox.for_caller(ANN), ANN
        )
        assert len(scene.model.bodies) == times, (reply, limit)
        assert len(talk.usages) == times - (reply is whole)

    for case in cases:
        asked(*case)
