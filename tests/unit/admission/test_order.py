"""Who goes first: by class, by age, and never for ever behind."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from admission.order import AGING_S, Priority, order_of

seconds = st.floats(min_value=0, max_value=1e6, allow_nan=False)


@given(came=seconds, later=st.floats(min_value=0.001, max_value=1e4))
def test_within_a_class_the_older_goes_first(came: float, later: float) -> None:
    """Fairness among equals."""
    for priority in Priority:
        assert order_of(priority, came) < order_of(priority, came + later)


@given(came=seconds, later=st.floats(min_value=0, max_value=AGING_S - 0.001))
def test_an_interactive_request_passes_the_batch_ones_of_the_last_seconds(came: float, later: float) -> None:
    """A person who waits goes before a job that does not."""
    assert order_of(Priority.INTERACTIVE, came + later) < order_of(Priority.BATCH, came)


@given(came=seconds, later=st.floats(min_value=AGING_S + 0.001, max_value=1e6))
def test_nobody_who_comes_after_the_aging_bound_passes_a_batch_request(came: float, later: float) -> None:
    """However many interactive requests keep coming, a batch request waits for those of 30 s at most."""
    assert order_of(Priority.BATCH, came) < order_of(Priority.INTERACTIVE, came + later)
