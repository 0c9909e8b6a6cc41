"""A submit on its way: how long it has taken so far, and for which key it asks."""

from __future__ import annotations

import asyncio
from typing import Any

from broadcast.broadcast import Broadcast
from broadcast.log import Log
from cache.keys import beside
from chatbot.asked import Asked
from chatbot.request import CacheDirectives
from chatbot.ticket import Ticket
from chatbot.via import NATIVE
from runtime.errors import Draining
from tests.fakes.claims import RecordingDriver
from tests.fakes.pipeline import question
from tests.virtual_time import virtual
from upstream.chunk import Chunk

KEY = "ab" * 32


@virtual
async def test_the_wait_counts_from_its_arrival() -> None:
    """Not from the round of admission that it is in."""
    ticket = Ticket.issue("tenant")
    await asyncio.sleep(0.25)
    asked = Asked("key", question("q"), ticket, NATIVE, too_old=False)
    await asyncio.sleep(1)
    assert asked.waited_ms == 1250


def asks(**directives: Any) -> Asked:
    request = question("q", cache=CacheDirectives(**directives))
    return Asked(KEY, request, Ticket.issue("tenant"), NATIVE, too_old=False)


def flies(*, remote: bool = False, past: bool = False) -> Broadcast[Chunk]:
    flight: Broadcast[Chunk] = Broadcast(KEY, Log(7), RecordingDriver())
    flight.remote = remote
    if past:
        flight.fresh_until = asyncio.get_running_loop().time()
    return flight


@virtual
async def test_it_evades_what_runs_and_may_not_be_joined() -> None:
    """Made here or elsewhere: that one keeps its key, and all who come too late for it share another."""
    for flight in (flies(), flies(past=True), flies(remote=True, past=True)):
        asked, other = asks(), asks()
        assert asked.evades(flight)
        assert other.evades(flight)
        assert asked.key == other.key == beside(KEY, 7)


@virtual
async def test_it_goes_after_its_own_key_where_nothing_is_in_the_way() -> None:
    """Nothing, what has ended, what it may follow; or where it only wants to look into the cache."""
    ended = flies(past=True)
    ended.fail(Draining())
    for flight in (None, ended, flies(remote=True)):
        asked = asks()
        assert not asked.evades(flight)
        assert asked.key == KEY
    looking = asks(only_if_cached=True)
    assert not looking.evades(flies(past=True))
    assert looking.key == KEY


@virtual
async def test_it_asks_at_once_for_a_key_beside_another() -> None:
    """Redis has named the flight: what is there is gone round without a pause."""
    asked = asks()
    assert asked.goes_beside(9) == 0
    assert asked.key == beside(KEY, 9)
