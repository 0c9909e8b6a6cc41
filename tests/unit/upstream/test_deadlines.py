"""The deadlines of one call, on a clock that the test moves."""

from __future__ import annotations

from runtime.errors import FirstTokenTimeout, StreamIdleTimeout, StreamTimeout
from upstream.deadlines import Deadlines, Timeouts

TIMEOUTS = Timeouts(connect=1, first_token=10, idle=5, total=30)


def test_before_any_content_the_first_token_is_due() -> None:
    """Counted from the start of the call."""
    deadlines = Deadlines(100.0, TIMEOUTS)
    assert deadlines.due() == 110.0
    assert deadlines.expired(109.9) is None
    assert isinstance(deadlines.expired(110.0), FirstTokenTimeout)


def test_chunks_without_content_do_not_stop_the_first_token_timer() -> None:
    """A role is no token."""
    deadlines = Deadlines(100.0, TIMEOUTS)
    deadlines.progress(105.0, content=False)
    assert deadlines.due() == 110.0


def test_after_content_every_chunk_restarts_the_idle_timer() -> None:
    """Also one without content."""
    deadlines = Deadlines(100.0, TIMEOUTS)
    deadlines.progress(109.0, content=True)
    assert deadlines.due() == 114.0
    deadlines.progress(113.0, content=False)
    assert deadlines.due() == 118.0
    assert isinstance(deadlines.expired(118.0), StreamIdleTimeout)


def test_the_next_look_is_never_too_late_for_a_deadline_that_comes_forward() -> None:
    """With a long first-token time and a short idle time the first token brings the end nearer."""
    deadlines = Deadlines(100.0, Timeouts(first_token=60, idle=5, total=600))
    assert deadlines.look_at(100.0) == 105.0
    deadlines.progress(100.5, content=True)
    assert deadlines.look_at(105.0) == deadlines.due() == 105.5


def test_the_total_is_never_moved() -> None:
    """A stream that trickles for ever ends all the same."""
    deadlines = Deadlines(100.0, TIMEOUTS)
    deadlines.progress(128.0, content=True)
    assert deadlines.due() == 130.0
    assert isinstance(deadlines.expired(130.0), StreamTimeout)
