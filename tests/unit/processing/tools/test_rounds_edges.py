"""The rounds, and what the step makes of them: what is asked, how long it holds, when it is the answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from processing.account import account_of
from processing.ready import Ready
from processing.tools import tool
from processing.tools.asked import Call
from processing.tools.results import Result, Status, refused
from processing.tools.rounds import Talk
from processing.tools.step import ToolStep, bounded
from processing.tools.tool import Tool
from tests.fakes.tools import ANN, Bench, Played, Scene, call, chosen, said
from tests.fakes.turn import FakeTurn, prompt
from tests.unit.processing.tools.test_direct import Speaker
from tests.virtual_time import virtual
from upstream.chunk import Chunk

OF_THE_ANSWER = ["n", "response_format", "stop", "logprobs", "top_logprobs", "tool_choice"]


def timed(name: str, time_bound: float | None) -> Tool:
    options: dict[str, Any] = {"cacheable": time_bound is None, "time_bound": time_bound}
    return Played().sleeper(name, **options)


def talk(*bounds: float | None, status: Status = Status.OK) -> Talk:
    """One that used a tool for each of the bounds, the last of which ended so."""
    names = [f"t{number}" for number in range(len(bounds))]
    used = {name: timed(name, bound) for name, bound in zip(names, bounds, strict=True)}
    results = [Result(name, Status.OK) for name in names[:-1]] + [Result(names[-1], status)]
    return Talk([], used=used, results=results)


@pytest.mark.parametrize("name", OF_THE_ANSWER)
def test_the_form_of_the_answer_is_not_that_of_the_rounds(name: str) -> None:
    """A model that has to answer in JSON, or three times, cannot choose a tool."""

    @virtual
    async def asked() -> None:
        scene = Scene(chosen(("sleep", {})), said("so"), tools=(Played().sleeper(),))
        rounds = await scene.rounds.run(FakeTurn(), {**prompt().body, name: 2}, [], ANN)
        assert rounds.rounds == 1
        assert all(name not in body for body in scene.model.bodies)
        assert all(body["temperature"] == 0.5 for body in scene.model.bodies)

    asked()


@virtual
async def test_each_round_knows_what_was_said_before() -> None:
    """The request's own messages are not changed: they are the sharing key's."""
    scene = Scene(
        chosen(("sleep", {"say": "a"})), chosen(("sleep", {"say": "b"})), tools=(Played().sleeper(),)
    )
    asked = prompt()
    prepared = await scene.step.run(asked)
    assert [len(body["messages"]) for body in scene.model.bodies] == [1, 3, 5]
    assert [each["role"] for each in prepared.body["messages"]] == ["user"] + ["assistant", "tool"] * 2
    assert len(asked.body["messages"]) == 1


@virtual
async def test_rounds_end_at_their_limit() -> None:
    """The answer is asked for without tools then: it has to say something."""
    replies = [chosen(("sleep", {"say": str(number)})) for number in range(9)]
    scene = Scene(*replies, tools=(Played().sleeper(),), limit=2)
    prepared = await scene.run()
    assert len(scene.model.bodies) == 2
    assert prepared.direct is None
    assert len(account_of(prepared.preface)["tools"]) == 2


@pytest.mark.parametrize(
    ("body", "reply", "answers"),
    [
        ({}, said("so"), True),
        ({"n": 1}, said("so"), True),
        ({"stop": None}, said("so"), True),
        *(({name: 2}, said("so"), False) for name in OF_THE_ANSWER if name != "tool_choice"),
        ({}, said(" \n"), False),
        ({}, msgspec.structs.replace(said("so"), finish_reason="length"), True),
        ({}, msgspec.structs.replace(said("so"), finish_reason="content_filter"), False),
        ({}, msgspec.structs.replace(said("so"), finish_reason=None), False),
    ],
)
def test_what_the_model_says_instead_of_tools_is_the_answer_if_it_is_one(
    body: dict[str, Any], reply: Any, answers: bool
) -> None:
    """Whole, and of the form that was asked for; else the model is asked again, in that form."""

    @virtual
    async def asked() -> None:
        scene = Scene(reply, tools=(Played().sleeper(),))
        prepared = await scene.run(**body)
        assert isinstance(prepared.direct, Ready) is answers
        assert (prepared.preface, prepared.store, prepared.ttl_s) == ((), True, None)

    asked()


@virtual
async def test_the_answer_is_the_models_own_message() -> None:
    """With its usage, its model's name and how it ended, and without what is empty."""
    reply = msgspec.structs.replace(
        said("so"),
        message={"role": "assistant", "content": "so", "refusal": None, "tool_calls": [], "reasoning": "why"},
        usage={"prompt_tokens": 3},
    )
    scene = Scene(reply, tools=(Played().sleeper(),))
    prepared = await scene.run()
    assert isinstance(prepared.direct, Ready)
    assert prepared.direct.otherwise.direct is None
    first, end, used = (msgspec.json.decode(chunk.raw) for chunk in prepared.direct.chunks)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "so", "reasoning": "why"}
    assert (first["choices"][0]["index"], first["choices"][0]["finish_reason"]) == (0, None)
    assert (end["choices"][0]["delta"], end["choices"][0]["finish_reason"]) == ({}, "stop")
    assert (used["choices"], used["usage"]) == ([], {"prompt_tokens": 3})
    for each in (first, end, used):
        assert (each["id"], each["created"]) == (first["id"], first["created"])
        assert (each["object"], each["model"]) == ("chat.completion.chunk", "m")
    assert first["id"].startswith("chatcmpl-")


@virtual
async def test_a_reply_without_usage_has_no_chunk_of_it() -> None:
    """What is not known is not told as nothing."""
    prepared = await Scene(said("so"), tools=(Played().sleeper(),)).run()
    assert isinstance(prepared.direct, Ready)
    chunks: tuple[Chunk, ...] = prepared.direct.chunks
    assert [chunk.usage_only for chunk in chunks] == [False, False]


@pytest.mark.parametrize(
    ("talks", "before", "after"),
    [
        ([talk(None)], None, (True, None)),
        ([talk(60.0, None)], None, (True, 60.0)),
        ([talk(60.0, 30.0)], None, (True, 30.0)),
        ([talk(600.0)], None, (True, 100.0)),
        ([talk(60.0)], 40.0, (True, 40.0)),
        ([talk(60.0)], 80.0, (True, 60.0)),
        ([talk(60.0), talk(None), talk(50.0)], None, (True, 50.0)),
        ([talk(0.0)], None, (False, None)),
        ([talk(0.0), talk(50.0)], None, (False, 50.0)),
        ([talk(50.0, status=Status.FAILED)], None, (False, None)),
        ([talk(50.0, status=Status.TIMED_OUT)], None, (False, None)),
        ([talk(50.0, status=Status.REFUSED)], None, (True, 50.0)),
        ([], None, (True, None)),
    ],
)
def test_an_answer_holds_as_long_as_the_shortest_of_what_it_is_made_of(
    talks: list[Talk], before: float | None, after: tuple[bool, float | None]
) -> None:
    """Only ever shorter; one out of half a result, or of what holds for no time, is not kept."""
    made = bounded(replace(prompt(), ttl_s=before), talks, 100.0)
    assert (made.store, made.ttl_s) == after


def test_what_may_not_be_kept_anyhow_is_not_kept() -> None:
    """A tool allows nothing that the request has forbidden."""
    assert not bounded(replace(prompt(), store=False), [talk(60.0)], 100.0).store


@pytest.mark.parametrize("name", ["tools", "tool_choice", "functions", "function_call"])
def test_a_clients_own_tools_are_its_own_to_run(name: str) -> None:
    """Each of the fields is enough, and none of them is null."""
    step: ToolStep = Scene(tools=(Played().sleeper(),)).step
    assert step.applies(prompt().body)
    assert step.applies({**prompt().body, name: None})
    assert not step.applies({**prompt().body, name: []})
    assert not step.applies({**prompt().body, "model": "workflow:w"})


@virtual
async def test_only_what_ran_was_used() -> None:
    """A call that was refused shortens nothing."""
    scene = Scene(
        chosen(("brief", {"seconds": "x"}), ("long", {})), tools=(timed("brief", 1.0), timed("long", 60.0))
    )
    assert (await scene.run()).ttl_s == 60.0


@virtual
async def test_a_tool_that_streams_answers_only_alone_and_only_if_it_streams() -> None:
    """Called twice, or for a step of a workflow, it is a tool like any other."""
    speaker, played = Speaker("x"), Played()
    for reply in (chosen(("speak", {}), ("speak", {})), chosen(("sleep", {}))):
        scene = Scene(reply, tools=(speaker.tool, played.sleeper()))
        assert not hasattr((await scene.run()).direct, "_tool")
    scene = Scene(chosen(("speak", {})), said("so"), tools=(speaker.tool,))
    reply, heard = await scene.rounds.ask(FakeTurn(), prompt().body, ["speak"], ANN)
    assert (reply.text, heard.alone, [each.text for each in heard.results]) == ("so", None, ["x"])


@virtual
async def test_a_name_that_was_not_offered_is_refused_by_name() -> None:
    """The model reads which there are; a stateful one too many is refused like any."""
    bench = Bench(Played().sleeper("a"), Played().sleeper("b", cacheable=False, stateful=True))
    assert (len(bench.toolbox), bench.toolbox["a"].name, bench.toolbox.names) == (2, "a", ("a", "b"))
    results = await bench.run(*[call("b", seconds=0)] * 128, call("b"), Call("x", "c", "{}"))
    assert [each.status for each in results] == [Status.OK] * 128 + [Status.REFUSED] * 2
    assert results[-1] == refused("c", "more than 128 calls at once")
    bench.assert_at_rest()


@virtual
async def test_tools_that_a_caller_has_not_are_no_reason_to_ask() -> None:
    """Nothing to choose from: the prompt is the very same, and the model is asked once, for its answer."""

    async def mine() -> str:
        """Mine."""
        return ""

    scene = Scene(tools=(tool(mine, user_bound=True),))
    scene.caller = replace(ANN, user=None)
    asked = prompt()
    assert await scene.step.run(asked) is asked
    assert scene.model.bodies == []
