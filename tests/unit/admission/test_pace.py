"""How long a permit is held, as measured."""

from __future__ import annotations

import pytest

from admission.pace import NEWEST, STALE_S, HoldingTime


def test_nothing_measured_foretells_nothing() -> None:
    """No sample, no mean."""
    assert HoldingTime().mean(0.0) is None


def test_the_mean_follows_the_newest_samples() -> None:
    """The first sample is the mean; each later one moves it by its weight."""
    holding = HoldingTime()
    holding.learn(2.0, 1.0)
    assert holding.mean(1.0) == 2.0
    holding.learn(4.0, 2.0)
    assert holding.mean(2.0) == pytest.approx(2.0 + NEWEST * 2.0)


def test_an_old_measurement_says_nothing_about_now() -> None:
    """After an idle spell two long holds of before must not shed a burst of now."""
    holding = HoldingTime()
    holding.learn(50.0, 0.0)
    assert holding.mean(STALE_S) == 50.0
    assert holding.mean(STALE_S + 1.0) is None
    holding.learn(1.0, STALE_S + 2.0)
    assert holding.mean(STALE_S + 2.0) == 1.0
