"""What a step's templates see: the last question, whatever its form, and every step before it once."""

from __future__ import annotations

from typing import Any

import pytest

from processing.workflows.form import Step
from processing.workflows.graph import Node
from processing.workflows.record import StepRecord
from processing.workflows.view import Asked, messages, variables


def node(name: str = "end", told: str = "", system: str | None = None, round: int = 1) -> Node:
    given = {"name": name.partition("@")[0], "prompt": "ask {{ question }}", "system": system}
    step = Step.model_validate({field: value for field, value in given.items() if value is not None})
    return Node(name, step, round=round, told=told)


@pytest.mark.parametrize(
    ("said", "question"),
    [
        ([{"role": "user", "content": "first"}, {"role": "user", "content": "last"}], "last"),
        ([{"role": "user", "content": "mine"}, {"role": "assistant", "content": "not mine"}], "mine"),
        ([{"role": "user", "content": "mine"}, "odd", 3, {"content": "nobody's"}], "mine"),
        (
            [
                {
                    "role": "user",
                    "content": [{"text": "a"}, {"type": "image"}, "b", {"text": 3}, {"text": "c"}],
                }
            ],
            "a\nc",
        ),
        ([{"role": "user", "content": None}], ""),
        ([{"role": "user"}], ""),
        ([{"role": "system", "content": "rules"}], ""),
        ([], ""),
    ],
)
def test_the_question_is_the_text_of_the_last_user_message(said: list[Any], question: str) -> None:
    """Clients send parts, and histories with anything in them."""
    assert Asked(said).question == question


def test_a_step_with_rules_of_its_own_has_them_after_those_of_its_pattern() -> None:
    """One system message, or none."""
    prompt = {"role": "user", "content": "ask q"}
    values = {"question": "q"}
    assert messages(node(), values) == [prompt]
    assert messages(node(told="T"), values) == [{"role": "system", "content": "T"}, prompt]
    assert messages(node(system="S {{ question }}"), values)[0]["content"] == "S q"
    assert messages(node(told="T", system="S"), values) == [{"role": "system", "content": "T\n\nS"}, prompt]


def record(name: str, status: Any = "done", **fields: Any) -> StepRecord:
    made = StepRecord(name, name.partition("@")[0], status)
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def test_the_last_word_of_a_step_is_its_result() -> None:
    """A later round replaces an earlier one, also its gap; one that was not asked replaces nothing."""
    before = (node("a@1"), node("b@1"), node("c@1"), node("a@2", round=2), node("b@2", round=2))
    records = {
        each.name: each
        for each in (
            record("a@1", "failed", why="timed_out"),
            record("b@1", text="B"),
            record("c@1", "failed", why="refused"),
            record("a@2", text="A"),
            record("b@2", "skipped", idle=True, why="no mail"),
        )
    }
    asked = Asked([{"role": "user", "content": "q"}])
    seen = variables(node(round=3), asked, before, records, {"task": "mine"})
    assert seen == {
        "question": "q",
        "messages": asked.messages,
        "round": 3,
        "task": "mine",
        "inbox": [],
        "results": {"a": "A", "b": "B", "c": "[missing: c: refused]"},
        "missing": {"c": "refused"},
        "history": [
            {"name": "a", "round": 1, "text": "[missing: a: timed_out]"},
            {"name": "b", "round": 1, "text": "B"},
            {"name": "c", "round": 1, "text": "[missing: c: refused]"},
            {"name": "a", "round": 2, "text": "A"},
        ],
    }


def test_who_was_never_asked_is_no_gap() -> None:
    """It has a place among the results, so that a template which names it can be filled."""
    idle = {"a": record("a", "skipped", idle=True, why="no task")}
    asked = Asked([{"role": "user", "content": "q"}])
    seen = variables(node(), asked, (node("a"),), idle, {})
    assert (seen["task"], seen["question"]) == ("q", "q"), "who was given no task has the question"
    assert (seen["results"], seen["missing"], seen["history"]) == ({"a": "[not asked: a: no task]"}, {}, [])
