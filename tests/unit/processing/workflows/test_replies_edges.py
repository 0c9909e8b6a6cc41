"""What a model says to the graph: understood as a whole or not at all, up to its bounds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from processing.workflows.replies import MAX_CHARACTERS, MAX_ITEMS, assignments, publications

WORKERS = ("w1", "w2")


def assigned(*items: Any) -> Any:
    return assignments(json.dumps(list(items)), WORKERS)


def given(worker: Any = "w1", task: Any = "add") -> dict[str, Any]:
    return {"worker": worker, "task": task}


@pytest.mark.parametrize(
    "item",
    [given("w3"), given(1), given(None), given(task=3), given(task=" \n"), given(task=None), {}, "w1", 3],
)
def test_one_item_that_makes_no_sense_spoils_the_plan(item: Any) -> None:
    """A part of it would be work that somebody meant to be done and nobody does."""
    assert assigned(given("w2"), item) is None
    assert assigned(given("w2")) == {"w2": "add"}


def test_tasks_for_one_worker_are_one_task() -> None:
    """In their order, and only for that worker."""
    assert assigned(given("w1", "a"), given("w2", "b"), given("w1", "c")) == {"w1": "a\nc", "w2": "b"}


@pytest.mark.parametrize("text", ["[]", "null", "3", '"w1"', "no", "", "[" * 100_000, "\ud800"])
def test_a_plan_for_nobody_is_none(text: str) -> None:
    """Every worker gets the question then: silence is not what a coordinator is for."""
    assert assignments(text, WORKERS) is None


def test_a_reply_may_be_one_object_or_stand_in_a_fence() -> None:
    """Models put JSON in fences, with words around them, whatever they were told."""
    one = '{"worker": "w1", "task": "add"}'
    for text in (one, f"```json\n[{one}]\n```", f"Here:\n```\n{one}\n```\nDone.", f"```json  \n{one}```"):
        assert assignments(text, WORKERS) == {"w1": "add"}


def test_a_reply_is_read_up_to_its_bounds() -> None:
    """Just what is allowed is; one more is nonsense."""
    said = {"topic": "t", "text": "x"}
    assert publications(json.dumps([said] * MAX_ITEMS)) == [("t", "x")] * MAX_ITEMS
    assert publications(json.dumps([said] * (MAX_ITEMS + 1))) is None
    most = json.dumps(said)
    most += " " * (MAX_CHARACTERS - len(most))
    assert publications(most) == [("t", "x")]
    assert publications(most + " ") is None


@pytest.mark.parametrize(
    "item", [{"topic": 1, "text": "x"}, {"topic": "t"}, {"text": "x"}, {"topic": "t", "text": 2}]
)
def test_what_is_published_is_text_on_a_topic(item: Any) -> None:
    """Else nothing of the reply is published, and the record says so."""
    assert publications(json.dumps([{"topic": "t", "text": "x"}, item])) is None


def test_an_empty_list_is_silence() -> None:
    """An agent that has nothing to say has been understood."""
    assert publications("[]") == []
