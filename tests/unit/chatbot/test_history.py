"""What a turn is asked with: whole turns, the latest ones, as many as there is room for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chatbot.history import Turn, leave, new_ones, read, with_history
from tests.fakes.model import USAGE, delta, finish
from upstream.fold import completion

SYSTEM = {"role": "system", "content": "Be brief."}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def turn(number: int, size: int = 8) -> Turn:
    """Of 2 * (4 + size / 4) tokens."""
    return Turn(f"chat_{number}", [user(f"{number}".ljust(size, "q"))], f"{number}".ljust(size, "a"), 1.0)


def asked(messages: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": messages, **fields}


def said(body: dict[str, Any]) -> list[str]:
    return [message["content"][:1] for message in body["messages"]]


def test_what_was_said_stands_between_the_instructions_and_the_question() -> None:
    """Row 6: in order, and the question is the last: that is what the model answers."""
    body = with_history(asked([SYSTEM, user("new")], seed=7), [turn(1), turn(2)], 8192)
    assert [message["role"] for message in body["messages"]] == [
        "system", "user", "assistant", "user", "assistant", "user",
    ]  # fmt: skip
    assert said(body) == ["B", "1", "1", "2", "2", "n"]
    assert (body["seed"], body["model"]) == (7, "m")


def test_a_request_is_never_changed() -> None:
    """Its key and its request_id are over what was submitted."""
    request = asked([user("new")])
    with_history(request, [turn(1)], 8192)
    assert request == asked([user("new")])


@pytest.mark.parametrize(
    ("window", "kept"),
    [(1040, ""), (1041, "33"), (1052, "33"), (1053, "2233"), (1064, "2233"), (1065, "112233")],
)
def test_the_latest_turns_that_fit_are_kept_whole(window: int, kept: str) -> None:
    """Half of one would be a lie about what was said. 5 tokens are the question's, 1024 the answer's."""
    turns = [turn(number) for number in (1, 2, 3)]
    body = with_history(asked([user("n")], max_tokens=1024), turns, window)
    assert "".join(said(body)) == kept + "n"


def test_a_turn_that_is_too_long_hides_what_was_before_it() -> None:
    """History has no holes: who reads a later answer may ask what it refers to."""
    body = with_history(asked([user("n")], max_tokens=1024), [turn(1), turn(2, 4000), turn(3)], 1100)
    assert said(body) == ["3", "3", "n"]


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_the_room_for_the_answer_is_what_its_request_says(name: str) -> None:
    """A long answer needs room in the same window; a short one leaves more to history."""
    turns = [turn(1), turn(2)]
    assert said(with_history(asked([user("n")], **{name: 75}), turns, 92)) == ["2", "2", "n"]
    assert said(with_history(asked([user("n")], **{name: 60}), turns, 92)) == ["1", "1", "2", "2", "n"]
    assert said(with_history(asked([user("n")], **{name: 90}), turns, 92)) == ["n"]


def test_an_answer_of_the_whole_window_leaves_half_of_it() -> None:
    """Clients that always ask for the longest answer would otherwise have no memory, and not know why."""
    turns = [turn(1), turn(2)]
    assert said(with_history(asked([user("n")], max_tokens=57), turns, 58)) == ["n"]
    for limit in (58, 10**9):
        assert said(with_history(asked([user("n")], max_tokens=limit), turns, 58)) == [
            "1",
            "1",
            "2",
            "2",
            "n",
        ]
    assert said(with_history(asked([user("n")], max_tokens=56), turns, 56)) == ["2", "2", "n"]
    assert said(with_history(asked([user("n")]), turns, 56)) == ["2", "2", "n"], "nor does the default"


def test_instructions_and_the_question_always_stay() -> None:
    """What does not fit by itself is the model's to refuse: it knows its window."""
    body = with_history(asked([SYSTEM, user("n" * 100_000)]), [turn(1)], 10)
    assert said(body) == ["B", "n"]


def test_bytes_are_counted_not_characters() -> None:
    """In other scripts a character is a token and more: counted as a quarter, the window would overflow."""
    turns = [Turn("chat_1", [user("語" * 100)], "", 1.0)]
    assert said(with_history(asked([user("n")], max_tokens=1024), turns, 1024 + 6 + 4 + 75 + 4 - 2)) == ["n"]
    assert said(with_history(asked([user("n")], max_tokens=1024), turns, 1024 + 6 + 4 + 75 + 4)) == [
        "語",
        "",
        "n",
    ]


def test_a_message_of_parts_is_counted_too() -> None:
    """A picture in the history would otherwise cost nothing."""
    parts = {"role": "user", "content": [{"type": "text", "text": "x" * 400}]}
    turns = [Turn("chat_1", [parts], "a", 1.0)]
    assert len(with_history(asked([user("n")], max_tokens=1024), turns, 1024 + 100)["messages"]) == 1
    assert len(with_history(asked([user("n")], max_tokens=1024), turns, 1024 + 140)["messages"]) == 3


def test_what_stays_of_a_turn_is_its_new_messages_and_the_whole_answer() -> None:
    """Instructions are their request's own: kept, they would come back twice with the next one."""
    whole = completion([delta("Hel"), delta("lo"), *finish()])
    request = asked([SYSTEM, {"role": "developer", "content": "d"}, user("hi")])
    (kept,) = read([leave("chat_1", request, 12.34567, whole, USAGE)])
    assert kept.shown() == {
        "id": "chat_1",
        "messages": [user("hi")],
        "answer": "Hello",
        "finish_reason": "stop",
        "usage": USAGE,
        "created_at": 12.346,
    }
    assert kept.said() == [user("hi"), {"role": "assistant", "content": "Hello"}]
    assert new_ones(request) == [user("hi")]


def test_calls_of_the_clients_own_tools_are_part_of_the_history() -> None:
    """Its next turn brings their results: a model server refuses these without the calls."""
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    whole = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
    (kept,) = read([leave("chat_1", asked([user("hi")]), 1.0, whole.encode(), None)])
    assert kept.shown()["tool_calls"] == [call]
    assert kept.said()[-1] == message


CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "r"}


def calling(messages: list[dict[str, Any]]) -> Turn:
    """A turn that ends with a call of the client's own tool."""
    return Turn("chat_c", messages, "", 1.0, tool_calls=[CALL])


def roles(body: dict[str, Any]) -> list[str]:
    return [message["role"] for message in body["messages"]]


#: A question, a call, its result, a second call, its result, the answer.
ROUND = ["user", "assistant", "tool", "assistant", "tool", "assistant"]


@pytest.mark.parametrize("window", range(1024, 1224, 3))
def test_a_result_is_never_parted_from_its_call(window: int) -> None:
    """A model refuses a result that answers no call: every further turn would fail. All of it, or nothing."""
    turns = [calling([user("q")]), calling([RESULT]), Turn("chat_3", [RESULT], "a", 1.0), turn(4)]
    seen = roles(with_history(asked([user("n")]), turns, window))[:-1]
    assert seen in ([], ["user", "assistant"], [*ROUND, "user", "assistant"])


def test_calls_and_results_come_back_where_there_is_room() -> None:
    """They are dropped for want of room alone."""
    turns = [calling([user("q")]), calling([RESULT]), Turn("chat_3", [RESULT], "a", 1.0)]
    assert roles(with_history(asked([user("n")]), turns, 8192)) == [*ROUND, "user"]


@pytest.mark.parametrize("lost", [1, 2])
def test_a_result_whose_call_is_not_kept_any_more_is_left_out(lost: int) -> None:
    """The oldest turns make room in Redis too, and they are cut there without a look at what they are."""
    turns = [calling([user("q")]), calling([RESULT]), Turn("chat_3", [RESULT], "a", 1.0), turn(4)]
    assert roles(with_history(asked([user("n")]), turns[lost:], 8192)) == ["user", "assistant", "user"]


def test_a_new_result_takes_its_call_along_whatever_the_room() -> None:
    """Without it the model could only refuse; what was before that call is cut as ever."""
    turns = [turn(1), calling([user("q" * 400)]), calling([RESULT])]
    body = with_history(asked([SYSTEM, RESULT]), turns, 10)
    assert roles(body) == ["system", *ROUND[:5]]
