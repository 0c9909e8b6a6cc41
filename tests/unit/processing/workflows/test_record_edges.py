"""A record's sentences and figures, and what counts as a gap."""

from __future__ import annotations

import pytest

from processing.workflows.record import Cost, Record, Status, StepRecord


def step(name: str = "a", status: Status = "done", **fields: object) -> StepRecord:
    made = StepRecord(name, name, status)
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def run(*steps: StepRecord) -> Record:
    return Record("w", "v", steps)


@pytest.mark.parametrize(
    ("status", "idle", "over", "gap"),
    [
        ("waiting", False, False, False),
        ("running", False, False, False),
        ("streams", False, False, False),
        ("done", False, True, False),
        ("failed", False, True, True),
        ("skipped", False, True, True),
        ("skipped", True, True, False),
    ],
)
def test_what_is_over_and_what_is_a_gap(status: Status, idle: bool, over: bool, gap: bool) -> None:
    """An answer with a gap is not kept; one of whom nothing was asked leaves none."""
    made = step(status=status, idle=idle)
    assert (made.over, made.gap) == (over, gap)
    assert run(step(), made).whole is not gap


def test_a_second_choice_or_a_gap_below_is_not_the_whole_answer() -> None:
    """However deep it is."""
    assert run(step(), step(inner=run(step()))).whole
    assert not run(step(), step(fallback=True)).whole
    assert not run(step(inner=run(step(status="failed"))), step()).whole


def test_a_sentence_tells_of_twenty_steps() -> None:
    """It stands in an error: long enough to find the fault, bounded where a file has many steps."""
    assert (
        run(step("a"), step("b", "failed", why="timed_out")).told() == "Steps: a done; b failed (timed_out)."
    )
    twenty = [step(f"s{number}") for number in range(20)]
    assert run(*twenty).told().endswith("; s19 done.")
    assert run(*twenty, step("x")).told().endswith("; s19 done; and 1 more.")


def test_what_was_not_asked_is_told_from_what_is_missing() -> None:
    """The next step reads it in the place of a text."""
    assert step(text="said").shown == "said"
    assert step(status="skipped", idle=True, why="no task").shown == "[not asked: a: no task]"
    assert step(status="failed", why="timed_out").shown == "[missing: a: timed_out]"


def test_calls_are_those_of_nested_runs_too() -> None:
    """The bound is on what is paid for."""
    inner = run(step(cost=Cost(2)), step(cost=Cost(3)))
    assert run(step(cost=Cost(1)), step(inner=inner)).calls == 6


def test_a_cost_adds_up() -> None:
    """A step that is tried again pays twice; one token is a number, none is none."""
    cost = Cost()
    for used in (1, 2, 0):
        cost.add({"prompt_tokens": used, "completion_tokens": used + 1})
    assert (cost.prompt_tokens, cost.completion_tokens) == (3, 6)


def test_a_summary_has_milliseconds_and_what_is_inside() -> None:
    """And nothing that says nothing."""
    inner = run(step("x"))
    made = step(inner=inner, model="m", cost=Cost(1, 2, 3, 1.23456, 0.98765))
    (summary,) = run(made).summary()["steps"]
    assert summary == {
        "step": "a",
        "status": "done",
        "model": "m",
        "calls": 1,
        "prompt_tokens": 2,
        "completion_tokens": 3,
        "seconds": 1.235,
        "queued_s": 0.988,
        "inner": inner.summary(),
    }
