"""Nothing in Redis lives for ever but the fences, and nothing that is needed ends before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cache.flights import Led
from cache.names import flight_keys
from tests.fakes.shared_redis import asking, forever, key_of, lapse, processes
from tests.servers import RedisServer, standalone

pytestmark = pytest.mark.anyio
KEY = key_of(1)
M, S, U, F, C = flight_keys(KEY)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with standalone() as server:
        yield server


ID = "c" + "0" * 36 + "01"


async def test_every_key_but_the_fences_ends_by_itself(server: RedisServer) -> None:
    """Whatever dies where: nothing is left in Redis for ever."""
    async with processes(server, 3) as (a, b, c):
        epoch = await a.leads(KEY)
        await b.flights.join(asking(KEY, id=ID, stake="fi+"), 1.0)
        await c.flights.attach(KEY, "f")
        await a.flights.append(KEY, epoch, 1, b"", [b"x"])
        await a.flights.beat(1, [(KEY, f"L{epoch}")])
        await b.flights.beat(1, [(KEY, f"F{epoch}|fi+"), (key_of(65), "F5|fi")])
        with server.client as client:
            assert forever(client) == [F]
            lapse(client, KEY)
            taken = await b.flights.take_over(KEY, epoch, "n", "", b"{}")
            assert isinstance(taken, Led)
            await c.flights.stake(KEY, "fi")
            await b.flights.reseed(KEY, taken.epoch, b"", published=True, chunks=[b"y"])
            assert forever(client) == [F]
            await b.flights.abdicate(KEY, taken.epoch)
            again = await c.flights.take_over(KEY, taken.epoch, "m", b.name, b"")
            assert isinstance(again, Led)
            await c.flights.finish(KEY, again.epoch, "completed", b"", 0, value=b"v", ttl_ms=9000)
            assert forever(client) == [F]


async def test_a_flight_outlives_every_lease_in_it(server: RedisServer) -> None:
    """With a long lease too: what is known of a flight may not end before its leader is known to be gone."""
    async with processes(server, 1, lease_s=60.0) as (a,):
        epoch = await a.leads(KEY)
        await a.flights.append(KEY, epoch, 1, b"", [b"x"])
        with server.client as client:
            assert all(client.pttl(name) > 4 * 60_000 - 5_000 for name in (M, S))


async def test_a_running_log_lives_as_long_as_its_flight(server: RedisServer) -> None:
    """A model may be silent for longer than a log lingers: the beats keep its events, not its state alone."""
    async with processes(server, 1) as (a,):
        epoch = await a.leads(KEY)
        await a.flights.append(KEY, epoch, 1, b"", [b"x"])
        with server.client as client:
            client.pexpire(M, 5_000)
            client.pexpire(S, 5_000)
            await a.flights.beat(1, [(KEY, f"L{epoch}")])
            assert client.pttl(M) > 30_000
            assert client.pttl(S) > 30_000
