"""Epochs only rise: a cursor of an older one can always be told."""

from __future__ import annotations

import time

import pytest

from broadcast.epoch import Epochs


def test_epochs_rise_within_one_millisecond() -> None:
    """Many flights start in the same instant, and none may share an id with another."""
    epochs = Epochs()
    numbers = [epochs.next() for _ in range(1000)]
    assert numbers == sorted(set(numbers))


def test_epochs_rise_over_a_restart() -> None:
    """A new process starts beyond what any earlier one can have used, as long as clocks go forward."""
    before = Epochs().next()
    assert abs(before - time.time() * 1000) < 60_000
    assert Epochs().next() >= before


def test_a_clock_that_goes_back_takes_no_epoch_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """NTP steps: an epoch that was given out is never given out again."""
    epochs = Epochs()
    first = epochs.next()
    monkeypatch.setattr(time, "time", lambda: 1.0)
    assert epochs.next() == first + 1
