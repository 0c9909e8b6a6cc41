"""A look-up whose reply comes too late, or that is carried out later still, says nothing of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from cache.answer import SealedAnswer
from cache.codec import encode
from cache.flights import Asking, Hit
from cache.names import flight_keys
from cache.requests import SharedRequests
from tests.fakes.shared_redis import asking, key_of, processes
from tests.servers import RedisServer, standalone

pytestmark = pytest.mark.anyio
KEY = key_of(1)
ID = "chat_" + "0" * 32 + "01"
ANSWER = SealedAnswer(KEY, 77, 1.0, 60.0, (b"{}",), b"{}", 1, 1)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with standalone() as server:
        yield server


def look_up() -> Asking:
    return replace(
        asking(KEY), id=ID, about=b"hit", record_ttl_ms=60_000, hit=b"completed", hit_ttl_ms=60_000
    )


async def test_a_look_up_given_up_is_not_how_it_ended(server: RedisServer) -> None:
    """Its process stopped waiting and leads: with the hit's end left others say `completed` and 410."""
    async with processes(server) as (a, b):
        with server.client as client:
            client.flushall()
            client.set(flight_keys(KEY)[4], encode(ANSWER))
        assert isinstance(await a.flights.join(look_up(), 1.0), Hit)  # the reply is not waited for
        await SharedRequests(a.link).remember(ID, b"about", "leader", 99, 60_000)
        known = await SharedRequests(b.link).recall(ID)
        assert known is not None
        assert (known.role, known.epoch, known.end) == ("leader", 99, b"")


async def test_a_look_up_that_is_carried_out_last_changes_nothing(server: RedisServer) -> None:
    """Several connections, and batches that are sent again: `remember` may well overtake it."""
    async with processes(server) as (a, b):
        with server.client as client:
            client.flushall()
            client.set(flight_keys(KEY)[4], encode(ANSWER))
        await SharedRequests(a.link).remember(ID, b"about", "leader", 99, 60_000)
        assert isinstance(await a.flights.join(look_up(), 1.0), Hit)
        known = await SharedRequests(b.link).recall(ID)
        assert known is not None
        assert (known.role, known.epoch, known.end) == ("leader", 99, b"")


async def test_a_hit_names_its_answer(server: RedisServer) -> None:
    """Without the epoch its owner writes the text under another name than the reader looks for."""
    async with processes(server) as (a, b):
        with server.client as client:
            client.flushall()
            client.set(flight_keys(KEY)[4], encode(ANSWER))
        await a.flights.join(look_up(), 1.0)
        known = await SharedRequests(b.link).recall(ID)
        assert known is not None
        assert (known.role, known.epoch, known.end) == ("cached", 77, b"completed")
