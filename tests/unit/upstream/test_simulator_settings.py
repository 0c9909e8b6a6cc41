"""Behaviour, directives, chance and pace: the parts of the simulator that need no loop."""

from __future__ import annotations

import base64
from dataclasses import fields
from pathlib import Path

import pytest

from upstream.simulator import Behaviour, BehaviourError
from upstream.simulator.dice import Dice
from upstream.simulator.directive import Directive, parse_directive
from upstream.simulator.pacer import Pacer
from upstream.simulator.refusal import Refusal
from upstream.simulator.stats import Meter, Outcome, Stats, Tally

_PAGE = Path(__file__).parents[3] / "docs" / "simulator.md"


def _documented() -> set[str]:
    rows = [line for line in _PAGE.read_text().splitlines() if line.startswith("| `")]
    return {name for row in rows for name in row.split("|")[1].replace("`", "").replace(" ", "").split(",")}


def test_every_setting_and_every_directive_is_documented() -> None:
    """A key that the page does not name is a key that nobody finds."""
    names = {spec.name for spec in fields(Behaviour)} | set(Directive.__struct_fields__)
    assert names <= _documented()


def test_settings_are_read_from_text_all_or_none() -> None:
    """A change with one bad value changes nothing."""
    changed = Behaviour().changed({"ttft": "0.5", "max_streams": "8"})
    assert (changed.ttft, changed.max_streams, changed.tps) == (0.5, 8, 30)


@pytest.mark.parametrize(
    "values", [{"tfft": "1"}, {"ttft": "soon"}, {"ttft": "-1"}, {"ttft": "nan"}, {"tokens": "1.5"}]
)
def test_a_bad_setting_is_refused_by_name(values: dict[str, str]) -> None:
    """Misspelt, unreadable, negative, not a number, not whole: the error names the setting."""
    with pytest.raises(BehaviourError, match=next(iter(values))):
        Behaviour().changed(values)


def test_a_behaviour_out_of_range_cannot_be_built() -> None:
    """A flag goes through the same check as a parameter of /config."""
    with pytest.raises(BehaviourError, match="fail_rate"):
        Behaviour(fail_rate=2)


def test_a_directive_is_found_anywhere_in_a_text() -> None:
    """Several directives count as one; what is left out keeps its default."""
    directive = parse_directive("Say [[sim ttft=2 tokens=50]] it [[sim tokens=7 hang=1]]")
    assert directive == Directive(ttft=2.0, tokens=7, hang=True)
    assert parse_directive("no directive, not even [[simulated]]") == Directive()


@pytest.mark.parametrize("body", ["colour=red", "ttft", "ttft=soon", "status=200", "truncate=-1", "text=%%%"])
def test_a_directive_that_makes_no_sense_is_refused(body: str) -> None:
    """A typing error must not turn a scripted failure into a plain answer."""
    with pytest.raises(Refusal) as refused:
        parse_directive(f"[[sim {body}]]").exact_text()
    assert (refused.value.status, refused.value.code) == (400, "invalid_directive")


def test_a_directive_that_is_not_closed_is_refused() -> None:
    """It is the typing error that would be the hardest to see; a prompt full of them is refused as fast."""
    for text in ("[[sim hang=1]", "[[sim " * 100_000, "[[sim " + " " * 1_000_000):
        with pytest.raises(Refusal, match="closed"):
            parse_directive(text)


@pytest.mark.parametrize("text", ["", "a", "line\r\nbreak \u2028", "héllo 👩‍🚀 世界"])
def test_an_exact_text_comes_out_as_it_went_in(text: str) -> None:
    """Any UTF-8 passes through the directive, with padding and without."""
    encoded = base64.urlsafe_b64encode(text.encode()).decode()
    for form in (encoded, encoded.rstrip("=")):
        assert parse_directive(f"[[sim text={form}]]").exact_text() == text


def test_one_seed_brings_one_fate() -> None:
    """A run with failure rates can be repeated."""
    rolls = [[Dice(seed, "chat").roll() for _ in range(3)] for seed in (1, 1, 2)]
    assert rolls[0] == rolls[1] != rolls[2]


def test_chance_never_cuts_before_the_first_or_after_the_last_token() -> None:
    """An answer that chance truncates has begun, and is not complete."""
    dice = Dice(0, "chat")
    assert {dice.roll().point(4) for _ in range(200)} == {1, 2, 3}


def test_due_times_do_not_drift() -> None:
    """A late write sends all that is due, and the next token keeps its own time."""
    pacer = Pacer(first_due=10.0, tps=10)
    assert pacer.take(9.9, 100) == 0
    assert pacer.take(10.0, 100) == 1
    assert pacer.take(10.35, 100) == 3
    assert pacer.next_due == pytest.approx(10.4)


def test_no_more_tokens_are_taken_than_there_are() -> None:
    """However late, an answer has only so many tokens; unpaced, all are due at once."""
    assert Pacer(0.0, tps=10).take(100.0, 5) == 5
    assert Pacer(0.0, tps=0).take(0.0, 5) == 5
    assert Pacer(1.0, tps=0).take(0.0, 5) == 0


def test_time_spent_in_a_hold_is_not_made_up_for() -> None:
    """After a release the stream goes on at its pace, not in a burst."""
    pacer = Pacer(first_due=0.0, tps=10)
    pacer.resume(50.0)
    assert pacer.take(50.0, 100) == 1
    pacer.resume(40.0)
    assert pacer.next_due == pytest.approx(50.1)


def test_only_the_first_outcome_of_a_call_counts() -> None:
    """A client that leaves after the last byte has not aborted anything."""
    ticks = iter((1.0, 3.5))
    meter = Meter(clock=lambda: next(ticks))
    visit = meter.enter()
    visit.end(Outcome.COMPLETED)
    visit.end(Outcome.ABORTED)
    assert meter.snapshot() == {
        "calls": 1,
        "in_flight": 0,
        "peak": 1,
        "completed": 1,
        "aborted": 0,
        "rate_limited": 0,
        "failed": 0,
        "busy_ms": 2500,
    }


def test_a_tally_forgets_the_oldest_names() -> None:
    """A model that runs for months keeps a bounded memory of what it was asked."""
    tally = Tally(limit=2)
    for name in ("a", "b", "b", "c"):
        tally.add(name)
    assert tally.snapshot() == {"b": 2, "c": 1}
    assert tally.distinct == 3


def test_connections_are_told_apart_by_address_and_port() -> None:
    """A pooled connection counts once, however many calls it carries."""
    stats = Stats()
    for client in (("127.0.0.1", 1), ("127.0.0.1", 2), ("127.0.0.1", 1), None):
        stats.connected(client)
    assert stats.snapshot()["connections"] == 2
