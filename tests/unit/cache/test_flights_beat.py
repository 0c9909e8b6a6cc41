"""The beat of a partition: leases renewed, stakes restored, news told, and nobody else's lease touched."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cache.names import flight_keys
from cache.views import Others
from tests.fakes.shared_redis import LONG_AGO, key_of, lapse, processes
from tests.servers import RedisServer, standalone

pytestmark = pytest.mark.anyio
KEY, TWIN = key_of(1), key_of(1 + 64)
M, S, U, F, C = flight_keys(KEY)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with standalone() as server:
        yield server


async def test_a_beat_renews_a_lease_that_nobody_else_took(server: RedisServer) -> None:
    """Prototype bug k: with no local reader, too; the whole of a partition in one call, in its order."""
    async with processes(server) as (a, b):
        epoch = await a.leads(KEY)
        other = await b.leads(TWIN)
        with server.client as client:
            lapse(client, KEY)
            mine, theirs = await a.flights.beat(1, [(KEY, f"L{epoch}"), (TWIN, f"F{other}|fi")])
            assert int(client.hget(M, "l") or 0) > LONG_AGO
        assert (mine.epoch, mine.state, mine.owner) == (epoch, "live", a.name)
        assert (theirs.epoch, theirs.owner) == (other, b.name)
        assert mine.left_ms > 14_000


async def test_a_beat_restores_a_followers_stake(server: RedisServer) -> None:
    """Prototype bug j: after a loss of memory the leader must not think that nobody follows."""
    async with processes(server) as (a, b):
        epoch = await a.leads(KEY)
        await b.follows(KEY, "fi+")
        with server.client as client:
            client.delete(U)
        await b.flights.beat(1, [(KEY, f"F{epoch}|fi+")])
        (pulse,) = await a.flights.beat(1, [(KEY, f"L{epoch}")])
        assert pulse.others == Others(1, 1, 1)


async def test_a_beat_counts_the_others_and_only_those_whose_stake_holds(server: RedisServer) -> None:
    """A process's own stake is not somebody else's, and a dead machine's ends with its lease."""
    async with processes(server, 4) as (a, b, c, d):
        epoch = await a.leads(KEY)
        await b.follows(KEY, "fi+")
        await c.follows(KEY, "f")
        await d.follows(KEY, "fi")
        with server.client as client:
            client.zadd(U, {a.name + "i": 10**15, d.name: LONG_AGO, d.name + "i": LONG_AGO})
        (pulse,) = await a.flights.beat(1, [(KEY, f"L{epoch}")])
        assert pulse.others == Others(2, 1, 1)
        (pulse,) = await b.flights.beat(1, [(KEY, f"F{epoch}|fi+")])
        assert pulse.others == Others(1, 1, 0)


async def test_a_beat_says_what_redis_does_not_know(server: RedisServer) -> None:
    """Epoch 0: the leader seeds it again, the follower begins to worry. Nothing is made up for a leader."""
    async with processes(server, 1) as (a,):
        lost, orphan = await a.flights.beat(1, [(KEY, "L7"), (TWIN, "F7|fi")])
        assert (lost.epoch, orphan.epoch) == (0, 0)
        assert (lost.state, lost.owner, lost.others) == ("", "", Others())
        with server.client as client:
            assert client.exists(M) == 0


async def test_a_follower_sees_a_lease_run_out(server: RedisServer) -> None:
    """Negative, and only then: that is what starts a takeover."""
    async with processes(server) as (a, b):
        epoch = await a.leads(KEY)
        (before,) = await b.flights.beat(1, [(KEY, f"F{epoch}|fi")])
        with server.client as client:
            lapse(client, KEY)
        (after,) = await b.flights.beat(1, [(KEY, f"F{epoch}|fi")])
        assert before.left_ms > 0 > after.left_ms


async def test_an_ended_flight_is_not_kept_alive(server: RedisServer) -> None:
    """Its lease is not renewed: it lingers for as long as it was given, and goes."""
    async with processes(server, 1) as (a,):
        epoch = await a.leads(KEY)
        await a.flights.finish(KEY, epoch, "completed", b"", 0)
        with server.client as client:
            lapse(client, KEY)
            client.pexpire(M, 30_000)
            (pulse,) = await a.flights.beat(1, [(KEY, f"L{epoch}")])
            assert client.pttl(M) <= 30_000
        assert (pulse.state, pulse.left_ms < 0) == ("completed", True)


async def test_a_beat_tells_of_progress(server: RedisServer) -> None:
    """Events and whether they are public: what a lost hint would have said."""
    async with processes(server) as (a, b):
        epoch = await a.leads(KEY)
        (before,) = await b.flights.beat(1, [(KEY, f"F{epoch}|fi")])
        await a.flights.append(KEY, epoch, 1, b"", [b"1", b"2"])
        (after,) = await b.flights.beat(1, [(KEY, f"F{epoch}|fi")])
        assert [(pulse.events, pulse.published) for pulse in (before, after)] == [(0, False), (2, True)]
