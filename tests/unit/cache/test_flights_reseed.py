"""A leader tells Redis again what it has lost: never less than is there, never over somebody who lives."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cache.flights import Led, Refused
from cache.names import flight_keys
from cache.views import Batch
from tests.fakes.shared_redis import asking, key_of, lapse, processes
from tests.servers import RedisServer, standalone

pytestmark = pytest.mark.anyio
KEY = key_of(1)
M, S, U, F, C = flight_keys(KEY)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with standalone() as server:
        yield server


async def test_a_late_reseed_never_shrinks_a_log(server: RedisServer) -> None:
    """Prototype bug c: the retry of an old reseed arrives after newer events."""
    async with processes(server) as (a, b):
        epoch = await a.leads(KEY)
        await a.flights.append(KEY, epoch, 1, b"", [b"1", b"2", b"3"])
        assert await a.flights.reseed(KEY, epoch, b"", published=True, chunks=[b"1"]) is None
        assert (await b.follows(KEY)).entries == [Batch(1, [b"1", b"2", b"3"])]


async def test_a_reseed_never_reopens_an_end(server: RedisServer) -> None:
    """It has ended, and stays so."""
    async with processes(server, 1) as (a,):
        epoch = await a.leads(KEY)
        await a.flights.finish(KEY, epoch, "completed", b"{}", 0)
        again = await a.flights.reseed(KEY, epoch, b"", published=True, chunks=[b"1"])
        assert again == Refused("ENDED", "completed")


async def test_a_reseed_overrules_nobody_who_lives(server: RedisServer) -> None:
    """Two that led apart while Redis was cut: the second finds the first, even with a higher epoch."""
    async with processes(server) as (a, b):
        epoch = await a.leads(KEY)
        for number in (epoch - 1, epoch + 10**6):
            found = await b.flights.reseed(KEY, number, b"", published=False, chunks=[])
            assert found == Refused("FENCED", str(epoch))
        found = await b.flights.reseed(KEY, epoch, b"", published=False, chunks=[])
        assert found == Refused("FENCED", str(epoch)), "the same epoch is another's"


async def test_a_reseed_follows_the_dead_only_upwards(server: RedisServer) -> None:
    """Past a lapsed lease a higher epoch may lead, an older one may not; the fence goes with it."""
    async with processes(server) as (a, b):
        epoch = await a.leads(KEY)
        with server.client as client:
            lapse(client, KEY)
            low = await b.flights.reseed(KEY, epoch - 1, b"", published=True, chunks=[b"x"])
            assert low == Refused("FENCED", str(epoch))
            high = epoch + 10**6
            assert await b.flights.reseed(KEY, high, b"", published=True, chunks=[b"x"]) is None
            assert client.get(F) == f"{high}|0"
        assert await a.flights.append(KEY, epoch, 1, b"", [b"1"]) == Refused("FENCED", str(high))


async def test_a_log_that_went_alone_is_written_again(server: RedisServer) -> None:
    """Redis may evict a log and keep its state: the leader is told of the gap, and the ids stay the same."""
    async with processes(server) as (a, b):
        epoch = await a.leads(KEY)
        await a.flights.append(KEY, epoch, 1, b"", [b"1", b"2"])
        with server.client as client:
            client.delete(S)
        assert await a.flights.append(KEY, epoch, 3, b"", [b"3"]) == Refused("GAP", "0")
        end = await a.flights.finish(KEY, epoch, "completed", b"", 3, first=3, chunks=[b"3"])
        assert end == Refused("GAP", "0")
        await a.flights.append(KEY, epoch, 1, b"", [b"1", b"2", b"3"])
        assert (await b.follows(KEY)).entries == [Batch(1, [b"1", b"2", b"3"])]
        with server.client as client:
            client.delete(S)
        assert await a.flights.reseed(KEY, epoch, b"", published=True, chunks=[b"1", b"2", b"3"]) is None
        assert (await b.follows(KEY)).entries == [Batch(1, [b"1", b"2", b"3"])]


async def test_the_question_survives_a_loss_of_memory(server: RedisServer) -> None:
    """Row 88: durable: with the log, what was asked is written again, so that any process can still go on."""
    async with processes(server) as (a, b):
        led = await a.flights.join(asking(KEY, body=b"{}"), 1.0)
        assert isinstance(led, Led)
        with server.client as client:
            client.flushall()
        await a.flights.reseed(KEY, led.epoch, b"", published=True, chunks=[b"1"], body=b"{}")
        view = await b.flights.attach(KEY, "f")
        assert view is not None
        assert (view.body, view.entries) == (b"{}", [Batch(1, [b"1"])])
