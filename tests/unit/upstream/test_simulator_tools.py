"""The simulated model chooses tools: because a directive says so, or because the question names one."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.fakes.simulator_caller import Caller, Sim
from upstream.simulator import answer_tokens

pytestmark = pytest.mark.anyio

_CITY = {"properties": {"city": {"type": "string"}}, "required": ["city"]}


def _tool(name: str, parameters: Any = None) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def _calls(arguments: str, more: str = "") -> str:
    return f"[[sim calls=a:{_b64(arguments)}{more}]]"


def _b64(value: str) -> str:
    return base64.urlsafe_b64encode(value.encode()).decode().rstrip("=")


def _user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def _round(*said: str) -> list[dict[str, Any]]:
    asked = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    return [asked, *({"role": "tool", "tool_call_id": "1", "content": text} for text in said)]


async def _ask(messages: Any, *tools: Any, stream: bool = False, **fields: Any) -> Caller:
    body = {"messages": messages, "tools": list(tools), "stream": stream, **fields}
    return await Sim(tokens=5).call("POST", "/v1/chat/completions", body)


async def _called(text: str, *tools: Any, **fields: Any) -> list[tuple[str, Any]]:
    reply = await _ask([_user(text)], *tools, **fields)
    calls = reply.json["choices"][0]["message"].get("tool_calls", [])
    return [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls]


async def test_scripted_calls_come_in_one_message_with_ids_of_their_own() -> None:
    """Parallel calls are told apart by their ids alone."""
    reply = await _ask([_user(_calls('{"x": "ä"}', ",b"))], _tool("a"))
    choice = reply.json["choices"][0]
    calls = choice["message"]["tool_calls"]
    assert [call["function"] for call in calls] == [
        {"name": "a", "arguments": '{"x": "ä"}'},
        {"name": "b", "arguments": "{}"},
    ]
    assert len({call["id"] for call in calls}) == 2
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)


async def test_streamed_calls_come_in_pieces_that_say_where_they_belong() -> None:
    """A reader puts them together by their index."""
    reply = await _ask([_user(_calls('{"x": 12345}', ",b cut=3"))], _tool("a"), stream=True)
    pieces = [delta[0] for delta in reply.deltas("tool_calls")]
    assert [piece["index"] for piece in pieces] == [0, 0, 0, 0, 0, 1, 1]
    arguments = [piece["function"]["arguments"] for piece in pieces]
    assert ("".join(arguments[:5]), "".join(arguments[5:])) == ('{"x": 12345}', "{}")
    assert [piece["function"]["name"] for piece in pieces if "id" in piece] == ["a", "b"]
    assert reply.finish_reasons == ["tool_calls"]


async def test_it_calls_in_as_many_rounds_as_asked_and_then_answers() -> None:
    """A loop of calls can be as long as a test needs; only what follows the last user message counts."""
    prompt = "[[sim calls=a rounds=2]]"
    before = [_user(prompt), *_round("old"), *_round("old"), _user(prompt)]
    reasons = []
    for after in ([], _round("1"), [*_round("1"), *_round("2")]):
        reply = await _ask([*before, *after], _tool("a"))
        reasons.append(reply.json["choices"][0]["finish_reason"])
    assert reasons == ["tool_calls", "tool_calls", "stop"]


async def test_scripted_calls_need_tools_on_offer() -> None:
    """The answer that follows a gateway's last round offers none, and is an answer."""
    prompt = "[[sim calls=a rounds=9 tokens=5]]"
    assert (await _ask([_user(prompt)], stream=True)).deltas() == answer_tokens([_user(prompt)], 5)
    assert await _called(prompt, _tool("a"), tool_choice="none") == []


async def test_a_text_comes_after_the_calls() -> None:
    """So a test scripts both, and knows the answer's text."""
    prompt = f"[[sim calls=a text={_b64('done')}]]"
    assert await _called(prompt, _tool("a")) == [("a", {})]
    assert (await _ask([_user(prompt), *_round("x")], _tool("a"), stream=True)).deltas() == ["done"]


async def test_broken_arguments_go_out_as_they_are() -> None:
    """Models do send them."""
    reply = await _ask([_user(_calls('{"x": '))], _tool("a"))
    call = reply.json["choices"][0]["message"]["tool_calls"][0]
    assert call["function"]["arguments"] == '{"x": '


@pytest.mark.parametrize("calls", ["", ",a", "a:!", "a b=1", "a:gA", "a$"])
async def test_calls_of_no_such_form_are_refused(calls: str) -> None:
    """Also where none would be made: a test with a slip would prove nothing."""
    reply = await _ask([_user(f"[[sim calls={calls}]]")])
    assert (reply.status, reply.json["error"]["code"]) == (400, "invalid_directive")


async def test_a_capped_call_ends_with_length() -> None:
    """Half a call is none."""
    reply = await _ask([_user("[[sim calls=a cut=1]]")], _tool("a"), stream=True, max_tokens=2)
    assert reply.finish_reasons == ["length"]


@pytest.mark.parametrize(
    ("text", "called"),
    [
        ("What is the weather in Paris?", [("weather", {"city": "Paris"})]),
        ("WEATHER!", [("weather", {"city": "?"})]),
        ("Show me my orders.", [("my_orders", {})]),
        ("my_orders, please", [("my_orders", {})]),
        ("my orders and the weather in Rome", [("my_orders", {}), ("weather", {"city": "Rome"})]),
        ("the weatherman in Rome, or myorders", []),
        ("[[sim ttft=0]] weather Oslo [[sim tps=0]]", [("weather", {"city": "Oslo"})]),
        ("[[sim text=aGk]] weather Oslo", []),
        ("[[sim calls=my_orders]] weather Oslo", [("my_orders", {})]),
        ("hello", []),
    ],
)
async def test_a_question_calls_the_tools_that_it_names(text: str, called: Any) -> None:
    """A person tries tools without knowing of directives."""
    assert await _called(text, _tool("weather", _CITY), _tool("my_orders")) == called


async def test_it_answers_once_a_tool_has_spoken() -> None:
    """Otherwise a question that names a tool would call it for ever."""
    messages = [_user("weather Paris"), *_round("17 degrees\n in Paris", "x" * 500)]
    reply = await _ask(messages, _tool("weather", _CITY), stream=True)
    first, second, third, *rest = reply.deltas()
    assert first.startswith("Simulated answer ")
    assert second == " The tool said: 17 degrees in Paris."
    assert third == f" The tool said: {'x' * 159}…."
    assert [first, second, third, *rest] == answer_tokens(messages, 5)
    assert answer_tokens(messages, 2) == [first, second]
    asked_again = [*messages, {"role": "assistant", "content": "…"}, _user("and in Rome?")]
    assert " The tool said" not in "".join(answer_tokens(asked_again, 9))


async def test_required_parameters_get_plain_values() -> None:
    """As their types want it; what is not required is left out."""
    kinds = {
        "base": {"type": "string"},
        "target": {"type": "string"},
        "days": {"type": "integer"},
        "exact": {"type": "boolean"},
        "unit": {"enum": ["percent", "points"]},
        "tags": {"type": "array"},
        "more": {"type": "object"},
        "left": {"type": "string"},
    }
    schema = {"properties": kinds, "required": [name for name in kinds if name != "left"]}
    assert await _called("the rate of EUR USD", _tool("rate", schema)) == [
        (
            "rate",
            {
                "base": "EUR",
                "target": "USD",
                "days": 1,
                "exact": True,
                "unit": "percent",
                "tags": [],
                "more": {},
            },
        )
    ]


@pytest.mark.parametrize(
    "tool", [7, {}, {"function": 7}, {"function": {"name": 7}}, _tool(""), _tool("x", 7), _tool("x", {})]
)
async def test_tools_of_odd_shapes_break_nothing(tool: Any) -> None:
    """The gateway passes on what clients send."""
    assert (await _ask([_user("x y z")], tool)).status == 200
