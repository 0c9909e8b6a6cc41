"""Small things told to Redis: a claim nobody waits for is given back, no failure is anybody's."""

from __future__ import annotations

from typing import Any

import pytest

from broadcast.errands import Errands
from cache.errors import StoreDown
from cache.flights import Hit, Led
from runtime.supervisor import Supervisor
from tests.fakes.flights import FakeFlights, view
from tests.fakes.turns import settle
from tests.virtual_time import virtual


class Play:
    def __init__(self) -> None:
        self.flights = FakeFlights()
        self.leads: set[str] = set()
        self.mirrors: set[str] = set()
        self.errands = Errands(self.flights.real, Supervisor(), self.leads, self.mirrors)


@pytest.mark.parametrize(
    ("joined", "leads", "mirrors", "calls"),
    [
        (Led(7), set(), set(), [("abdicate", "k", 7)]),
        (Led(7), {"k"}, set(), []),
        (view(), set(), set(), [("stake", "k", "")]),
        (view(), set(), {"k"}, []),
        (Hit(b"v"), set(), set(), []),
        (None, set(), set(), [("stake", "k", "")]),
        (None, set(), {"k"}, []),
    ],
)
def test_what_an_absent_caller_was_given_is_given_back(
    joined: Any, leads: set[str], mirrors: set[str], calls: list[tuple[object, ...]]
) -> None:
    """Its client left while Redis answered: no orphan claim, no stake, unless it is used here by now."""

    @virtual
    async def given_back() -> None:
        play = Play()
        play.leads |= leads
        play.mirrors |= mirrors
        play.errands.unclaimed("k", joined)
        await settle()
        assert [call[:3] for call in play.flights.calls] == calls

    given_back()


@virtual
async def test_who_follows_again_does_not_leave() -> None:
    """A newcomer between the wish to leave and its telling: the stake stays."""
    play = Play()
    play.errands.leave("k")
    play.mirrors.add("k")
    await settle()
    assert play.flights.calls == []


@virtual
async def test_a_redis_that_is_away_is_nobodys_failure() -> None:
    """A lease says the same a little later; nothing is logged, nothing is left running."""
    play = Play()
    play.flights.replies["stake"] = [StoreDown("away")]
    play.flights.replies["abdicate"] = [StoreDown("away")]
    play.errands.leave("k")
    play.errands.abdicate("k", 7)
    await settle()
    assert len(play.flights.calls) == 2
