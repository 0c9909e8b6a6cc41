"""What becomes of an overruled broadcast that has ended, or is another's, by the time Redis answers."""

from __future__ import annotations

import pytest

from runtime.errors import LeaderLost
from tests.fakes.flights import view
from tests.fakes.turns import settle
from tests.unit.broadcast.test_overruled import Relay
from tests.virtual_time import virtual


@virtual
async def test_what_has_ended_follows_nobody() -> None:
    """It is let go of, and neither mirrored nor made again."""
    relay = Relay()
    relay.leading.broadcast.fail(LeaderLost())
    relay.act(view(epoch=9, owner="other"))
    assert relay.done == ["detach"]


@pytest.mark.parametrize("change", ["detached", "ended"])
def test_what_changed_while_it_looked_is_left_alone(change: str) -> None:
    """The reply is about what was: neither followed nor registered anew."""

    @virtual
    async def late() -> None:
        relay = Relay()
        relay.played.replies["attach"] = [view(epoch=9, owner="other"), None]
        for _ in range(2):
            relay.act(None)
        if change == "detached":
            relay.leading.detached = True
        else:
            relay.leading.broadcast.fail(LeaderLost())
        await settle()
        assert relay.done == []
        assert (relay.leading.registered, relay.leading.touched) == (True, 0)

    late()
