"""Join or lead: one flight per key, and no moment at which a twin finds neither it nor its answer."""

from __future__ import annotations

import pytest

from processing.flights import Flights


def test_a_claimed_key_is_found_until_its_flight_leaves() -> None:
    """Failed answers are nobody's from the moment they failed."""
    flights: Flights[str] = Flights()
    assert flights.find("k") is None
    flights.claim("k", "one")
    assert flights.find("k") == "one"
    flights.leave("k", "one")
    assert flights.find("k") is None
    assert len(flights) == 0


def test_a_flight_that_was_replaced_takes_nobody_with_it() -> None:
    """One that could not be joined any more ends later than its successor began."""
    flights: Flights[str] = Flights()
    flights.claim("k", "old")
    flights.claim("k", "new")
    flights.leave("k", "old")
    flights.land("k", "old")
    assert flights.find("k") == "new"


def test_a_landed_flight_leaves_at_once_when_nobody_looks() -> None:
    """The cache has its answer: the table is for what the cache does not have."""
    flights: Flights[str] = Flights()
    flights.claim("k", "one")
    with flights.looking("other"):
        flights.land("k", "one")
        assert flights.find("k") is None


def test_a_flight_that_lands_while_somebody_looks_stays_for_them() -> None:
    """The landed-while-looking race: their look-up may have read the cache before the answer was written."""
    flights: Flights[str] = Flights()
    flights.claim("k", "one")
    with flights.looking("k"):
        with flights.looking("k"):
            flights.land("k", "one")
            assert flights.find("k") == "one"
        assert flights.find("k") == "one", "the first of the two still looks"
    assert flights.find("k") is None
    assert repr(flights) == "<Flights [0 keys, 0 looked up]>"


def test_a_landed_flight_that_was_replaced_meanwhile_leaves_its_successor_alone() -> None:
    """Landed, then somebody led anew (no-cache) while a third still looked."""
    flights: Flights[str] = Flights()
    flights.claim("k", "old")
    with flights.looking("k"):
        flights.land("k", "old")
        flights.claim("k", "new")
    assert flights.find("k") == "new"


def test_a_look_that_fails_counts_as_over() -> None:
    """A cancelled look-up must not keep an answered flight in memory for ever."""
    flights: Flights[str] = Flights()
    flights.claim("k", "one")

    def fail_while_looking() -> None:
        with flights.looking("k"):
            flights.land("k", "one")
            raise ConnectionError

    with pytest.raises(ConnectionError):
        fail_while_looking()
    assert len(flights) == 0
    assert repr(flights) == "<Flights [0 keys, 0 looked up]>"
