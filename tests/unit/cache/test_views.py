"""What scripts reply, as values: the numbers of events, a lapsed lease, an end."""

from __future__ import annotations

import pytest

from cache.views import Batch, Ending, View, entries_of


def test_an_entry_carries_the_number_of_its_last_event() -> None:
    """Its first follows from how many there are: one per line."""
    reply = [
        (b"17-1", [b"d", b"a"]),
        (b"17-4", [b"d", b"b\nc\nd"]),
        (b"17-5", [b"t", b"failed", b"d", b"{}"]),
    ]
    assert entries_of(reply) == [Batch(1, [b"a"]), Batch(2, [b"b", b"c", b"d"]), Ending("failed", b"{}")]


@pytest.mark.parametrize(
    "reply", [[(b"17-1", [b"d"])], [(b"17-1", [b"x", b"y"])], [(b"nonsense", [b"d", b""])]]
)
def test_an_entry_of_somebody_else_is_an_error(reply: list[tuple[bytes, list[bytes]]]) -> None:
    """One that whoever reads replies expects: never a half-read log."""
    with pytest.raises((ValueError, KeyError)):
        entries_of(reply)


@pytest.mark.parametrize(
    ("state", "left_ms", "live", "lapsed"),
    [("live", 0, True, False), ("live", -1, True, True), ("completed", -1, False, False)],
)
def test_only_what_runs_can_lapse(state: str, left_ms: int, live: bool, lapsed: bool) -> None:
    """An ended flight has no lease to lose, and nobody takes it over."""
    view = View(1, "a", state, 0, False, b"", left_ms)
    assert (view.live, view.lapsed) == (live, lapsed)
