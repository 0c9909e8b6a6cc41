"""Outcomes: a closed set, because each is a metric label and a status that clients see."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from broadcast.outcome import End, Outcome


def test_outcomes_are_the_five_of_the_glossary() -> None:
    """A sixth one would be a new word for dashboards and clients."""
    assert [outcome.value for outcome in Outcome] == ["completed", "failed", "cancelled", "shed", "expired"]


def test_an_end_cannot_be_changed() -> None:
    """Row 39: what a request has ended with stays."""
    end = End(Outcome.CANCELLED, 1.0, shared=False, reason="cancelled by the client")
    with pytest.raises(FrozenInstanceError):
        end.outcome = Outcome.FAILED  # type: ignore[misc]
