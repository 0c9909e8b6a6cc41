"""For how long others may begin to follow a flight, as its leader says and as each of them is told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cache.flights import Hit, Led, Refused, SharedFlights
from cache.names import flight_keys
from cache.views import FOREVER_MS, View
from tests.fakes.shared_redis import asking, key_of, lapse, processes
from tests.servers import RedisServer, standalone

pytestmark = pytest.mark.anyio
KEY = key_of(1)
M = flight_keys(KEY)[0]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with standalone() as server:
        yield server


async def told(follower: SharedFlights, epoch: int) -> list[int]:
    """What a newcomer, a guest and a mirror are told of it."""
    joined = await follower.join(asking(KEY), 1.0)
    views = [joined, await follower.attach(KEY, "f"), await follower.pull(KEY, epoch, 0)]
    return [view.fresh_ms for view in views if isinstance(view, View)]


async def says(leader: SharedFlights, epoch: int, fresh_ms: int) -> None:
    """As a leader does when its preparation is over: nothing else about it changes."""
    assert await leader.reseed(KEY, epoch, b"", published=False, chunks=[], fresh_ms=fresh_ms) is None


async def test_whoever_follows_is_told_for_how_long_others_may(server: RedisServer) -> None:
    """For ever, unless the leader says otherwise; then for what is left of it, whichever way one comes."""
    async with processes(server) as (a, b):
        epoch = await a.leads(KEY)
        assert await told(b.flights, epoch) == [FOREVER_MS] * 3
        await a.flights.append(KEY, epoch, 1, b"", [b"1", b"2"])
        await says(a.flights, epoch, 60_000)
        assert all(0 < ms <= 60_000 for ms in await told(b.flights, epoch))
        view = await b.flights.pull(KEY, epoch, 0)
        assert view is not None
        assert (view.events, view.published) == (2, True), "what was published is still there"


async def test_what_was_over_is_never_less_than_nothing(server: RedisServer) -> None:
    """Its time is long over: nobody counts below nought."""
    async with processes(server) as (a, b):
        epoch = await a.leads(KEY)
        await says(a.flights, epoch, 0)
        with server.client as client:
            client.hset(M, "x", "1")
        views = [await b.flights.attach(KEY, "f"), await b.flights.pull(KEY, epoch, 0)]
        assert [view and view.fresh_ms for view in views] == [0, 0]


@pytest.mark.parametrize("way", ["takes over", "leads anew", "seeds its own"])
async def test_another_flight_has_another_time(server: RedisServer, way: str) -> None:
    """What one preparation has found says nothing of the next one's."""
    async with processes(server) as (a, b):
        epoch = await a.leads(KEY)
        await says(a.flights, epoch, 0)
        with server.client as client:
            lapse(client, KEY)
        if way == "takes over":
            assert isinstance(await b.flights.take_over(KEY, epoch, "nonce", "", b""), Led)
        elif way == "leads anew":
            await b.leads(KEY)
        else:
            seeded = await b.flights.reseed(KEY, epoch + 10**6, b"", published=True, chunks=[b"1"])
            assert seeded is None
        view = await a.flights.attach(KEY, "f")
        assert view is not None
        assert view.owner == b.name
        assert view.fresh_ms > FOREVER_MS / 2


async def test_nobody_else_follows_what_is_past_its_time(server: RedisServer) -> None:
    """A newcomer is told which flight that is, and takes nothing from it: no stake, no claim of its key."""
    async with processes(server, 3) as (a, b, c):
        epoch = await a.leads(KEY)
        await b.follows(KEY)
        await says(a.flights, epoch, 0)
        assert await c.flights.join(asking(KEY), 1.0) == Refused("PAST", str(epoch))
        assert await c.flights.join(asking(KEY, lead=False), 1.0) == Refused("PAST", str(epoch))
        (pulse,) = await a.flights.beat(1, [(KEY, f"L{epoch}")])
        assert (pulse.epoch, pulse.others.following) == (epoch, 1), "it goes on for those it has"


async def test_a_cached_answer_is_younger_than_that(server: RedisServer) -> None:
    """What lies in the cache is true: it is given, whatever runs."""
    async with processes(server) as (a, b):
        await says(a.flights, await a.leads(KEY), 0)
        with server.client as client:
            client.set(flight_keys(KEY)[4], b"answer")
        assert await b.flights.join(asking(KEY), 1.0) == Hit(b"answer")


async def test_the_key_of_a_leader_that_is_gone_is_free(server: RedisServer) -> None:
    """Its lease has run out: whoever asks leads, and waits for nobody."""
    async with processes(server) as (a, b):
        epoch = await a.leads(KEY)
        await says(a.flights, epoch, 0)
        with server.client as client:
            lapse(client, KEY)
        assert await b.leads(KEY) > epoch
