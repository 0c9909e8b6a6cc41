"""What a leader may do, and what an old one may not: epochs are fencing tokens, any call may be repeated."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

import pytest

from cache.flights import Hit, Led, Refused, SharedFlights, Wait
from cache.names import flight_keys
from cache.views import Batch, Ending, Others
from tests.fakes.shared_redis import LONG_AGO, asking, key_of, lapse, processes
from tests.servers import RedisServer, standalone

pytestmark = pytest.mark.anyio
KEY = key_of(1)
M, S, U, F, C = flight_keys(KEY)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with standalone() as server:
        yield server


# -- append -----------------------------------------------------------------------------------
async def test_an_append_that_is_sent_again_adds_nothing(server: RedisServer) -> None:
    """Whole or in part: what is there already is skipped, what is new is added."""
    async with processes(server) as (a, b):
        epoch = await a.leads(KEY)
        for _ in range(2):
            assert await a.flights.append(KEY, epoch, 1, b"", [b"1", b"2"]) == Others()
        await a.flights.append(KEY, epoch, 2, b"", [b"2", b"3"])
        assert (await b.follows(KEY)).entries == [Batch(1, [b"1", b"2"]), Batch(3, [b"3"])]


async def test_a_gap_is_refused_with_what_is_there(server: RedisServer) -> None:
    """A log never has a hole: the leader is told where to go on."""
    async with processes(server, 1) as (a,):
        epoch = await a.leads(KEY)
        await a.flights.append(KEY, epoch, 1, b"", [b"1"])
        assert await a.flights.append(KEY, epoch, 3, b"", [b"3"]) == Refused("GAP", "1")
        with server.client as client:
            assert client.xlen(S) == 1


async def test_an_append_tells_who_listens_and_only_the_living(server: RedisServer) -> None:
    """Its reply counts the other processes, its hint goes to each whose stake has not lapsed."""
    async with processes(server, 4) as (a, b, c, d):
        epoch = await a.leads(KEY)
        for proc, stake in ((b, "fi+"), (c, "f"), (d, "fi+")):
            await proc.follows(KEY, stake)
        with server.client as client:
            client.zadd(U, {d.name + kind: LONG_AGO for kind in ("", "i", "+")})
        assert await a.flights.append(KEY, epoch, 1, b"", [b"1"]) == Others(2, 1, 1)
        await b.hears(f"D|{KEY}|{epoch}|1")
        await c.hears(f"D|{KEY}|{epoch}|1")
        await d.has_heard_all()
        assert d.heard == []


async def test_an_append_renews_the_lease(server: RedisServer) -> None:
    """Who writes is alive, though its beat be late; nobody else took over meanwhile."""
    async with processes(server) as (a, b):
        epoch = await a.leads(KEY)
        with server.client as client:
            lapse(client, KEY)
        assert await a.flights.append(KEY, epoch, 1, b"", [b"1"]) == Others()
        assert (await b.follows(KEY)).left_ms > 14_000


# -- finish -----------------------------------------------------------------------------------
async def test_an_unshared_answer_is_never_written_as_a_log(server: RedisServer) -> None:
    """Lazy: one step, the cache has it, and no token went to Redis; said again, it is done already."""
    async with processes(server) as (a, b):
        epoch = await a.leads(KEY)
        for _ in range(2):
            done = await a.flights.finish(KEY, epoch, "completed", b"{}", 9, value=b"v", ttl_ms=5000)
            assert done is None
        with server.client as client:
            assert client.exists(S) == 0
            assert 0 < client.pttl(C) <= 5000
        assert await b.flights.join(asking(KEY), 1.0) == Hit(b"v")


async def test_what_is_not_kept_is_not_served(server: RedisServer) -> None:
    """Row 58: no value, no hit, not for a moment: the next one leads."""
    async with processes(server) as (a, b):
        epoch = await a.leads(KEY)
        assert await a.flights.finish(KEY, epoch, "failed", b"{}", 3) is None
        assert await b.leads(KEY) > epoch


async def test_a_follower_that_came_at_the_last_moment_gets_the_log(server: RedisServer) -> None:
    """The lazy end is refused with where to begin; the second attempt carries the log and its end."""
    async with processes(server) as (a, b):
        epoch = await a.leads(KEY)
        await b.follows(KEY)
        assert await a.flights.finish(KEY, epoch, "completed", b"{}", 2, value=b"v", ttl_ms=5000) == Refused(
            "GAP", "0"
        )
        with server.client as client:
            assert client.exists(C) == 0, "a refused end must not be cached"
        for _ in range(2):
            done = await a.flights.finish(
                KEY, epoch, "completed", b"{}", 2, value=b"v", ttl_ms=5000, first=1, chunks=[b"1", b"2"]
            )
            assert done is None
        view = await b.flights.pull(KEY, epoch, 0)
        assert view is not None
        assert view.entries == [Batch(1, [b"1", b"2"]), Ending("completed", b"{}")]
        await b.hears(f"D|{KEY}|{epoch}|3")


async def test_an_end_that_lacks_events_is_no_end(server: RedisServer) -> None:
    """A published log must be whole before it is closed, or a short answer would pass for complete."""
    async with processes(server) as (a, b):
        epoch = await a.leads(KEY)
        await b.follows(KEY)
        short = await a.flights.finish(KEY, epoch, "completed", b"{}", 3, first=1, chunks=[b"1", b"2"])
        assert short == Refused("GAP", "2")
        view = await b.flights.pull(KEY, epoch, 0)
        assert view is not None
        assert view.live


async def test_the_first_end_stays(server: RedisServer) -> None:
    """Another kind of end is refused, and so is more text."""
    async with processes(server, 1) as (a,):
        epoch = await a.leads(KEY)
        assert await a.flights.finish(KEY, epoch, "completed", b"{}", 0) is None
        assert await a.flights.finish(KEY, epoch, "failed", b"{}", 0) == Refused("ENDED", "completed")
        assert await a.flights.append(KEY, epoch, 1, b"", [b"1"]) == Refused("ENDED", "completed")


# -- idle and abdicate ------------------------------------------------------------------------
async def test_what_nobody_wants_ends_in_one_step(server: RedisServer) -> None:
    """Own interest does not count, a lapsed one neither; a mere follower is told of the end."""
    async with processes(server, 4) as (a, b, c, d):
        epoch = await a.leads(KEY)
        await c.follows(KEY, "f")
        await d.follows(KEY, "fi")
        with server.client as client:
            client.zadd(U, {a.name + "i": 10**15, d.name + "i": LONG_AGO})
        for _ in range(2):
            assert await a.flights.idle(KEY, epoch, "cancelled", b"{}", 1.0) is None
        view = await c.flights.pull(KEY, epoch, 0)
        assert view is not None
        assert (view.state, view.entries) == ("cancelled", [Ending("cancelled", b"{}")])
        for follower in (c, d):
            await follower.flights.stake(KEY, "")
        assert await b.leads(KEY) > epoch


async def test_somebody_elsewhere_keeps_it_running(server: RedisServer) -> None:
    """The race of the last one leaving with a newcomer has two outcomes only: this is the other."""
    async with processes(server) as (a, b):
        epoch = await a.leads(KEY)
        await b.follows(KEY, "fi+")
        assert await a.flights.idle(KEY, epoch, "cancelled", b"{}", 1.0) == Others(1, 1, 1)
        assert (await b.follows(KEY)).live


async def test_who_abdicates_is_succeeded_at_once_or_forgotten(server: RedisServer) -> None:
    """With somebody interested the lease ends and they are told; without, the flight was never there."""
    async with processes(server) as (a, b):
        epoch = await a.leads(KEY)
        await b.follows(KEY)
        await a.flights.abdicate(KEY, epoch)
        await b.hears(f"R|{KEY}|{epoch}")
        assert isinstance(await b.flights.take_over(KEY, epoch, "n", "", b""), Led)
        alone = await a.leads(key_of(2))
        await a.flights.abdicate(key_of(2), alone)
        with server.client as client:
            assert client.exists(*flight_keys(key_of(2))[:3]) == 0


# -- takeover and fencing ---------------------------------------------------------------------
async def test_a_takeover_has_one_winner_and_may_be_repeated(server: RedisServer) -> None:
    """Of two followers one leads; its own nonce again finds its own epoch, the other comes too late."""
    async with processes(server, 3) as (a, b, c):
        epoch = await a.leads(KEY)
        await b.follows(KEY)
        await c.follows(KEY)
        alive = await b.flights.take_over(KEY, epoch, "nb", "", b"")
        assert isinstance(alive, Refused)
        assert alive.why == "ALIVE"
        won = await b.flights.take_over(KEY, epoch, "nb", a.name, b"{}")
        assert isinstance(won, Led)
        assert won.epoch > epoch
        assert await b.flights.take_over(KEY, epoch, "nb", a.name, b"{}") == won
        assert await c.flights.take_over(KEY, epoch, "nc", a.name, b"") == Refused("LATE", str(won.epoch))
        await c.hears(f"R|{KEY}|{won.epoch}")


async def test_what_cannot_be_taken_over(server: RedisServer) -> None:
    """Nothing there, an end, or a Redis that has just lost its memory."""
    async with processes(server, 1, guard_s=60.0) as (a,):
        assert await a.flights.take_over(KEY, 1, "n", "", b"") == Refused("GONE")
        with server.client as client:
            client.set(F, "0|1")
            epoch = await a.leads(KEY)
            lapse(client, KEY)
            client.delete(F)
            assert isinstance(await a.flights.take_over(KEY, epoch, "n", "", b""), Wait)
        await a.flights.finish(KEY, epoch, "completed", b"{}", 0)
        assert await a.flights.take_over(KEY, epoch, "n", "", b"") == Refused("ENDED", "completed")


Deed = Callable[[SharedFlights, int], Awaitable[object]]
DEEDS: dict[str, Deed] = {
    "append": lambda flights, epoch: flights.append(KEY, epoch, 1, b"", [b"old"]),
    "finish": lambda flights, epoch: flights.finish(
        KEY, epoch, "completed", b"", 1, value=b"old", ttl_ms=9000, first=1, chunks=[b"old"]
    ),
    "reseed": lambda flights, epoch: flights.reseed(KEY, epoch, b"", published=True, chunks=[b"old"]),
    "idle": lambda flights, epoch: flights.idle(KEY, epoch, "cancelled", b"", 1.0),
    "abdicate": lambda flights, epoch: flights.abdicate(KEY, epoch),
    "beat": lambda flights, epoch: flights.beat(1, [(KEY, f"L{epoch}")]),
}


@pytest.mark.parametrize("deed", DEEDS)
async def test_an_old_epoch_changes_nothing(server: RedisServer, deed: str) -> None:
    """A leader that was frozen past its lease: its old tokens reach neither the new log nor the cache."""
    async with processes(server) as (a, b):
        old = await a.leads(KEY)
        await b.follows(KEY)
        new = await b.flights.take_over(KEY, old, "n", a.name, b"")
        assert isinstance(new, Led)
        await b.flights.append(KEY, new.epoch, 1, b"p", [b"new"])
        with server.client as client:
            before = (
                client.hgetall(M),
                client.xrange(S),
                client.get(F),
                client.get(C),
                client.zrange(U, 0, -1),
            )
            reply = await DEEDS[deed](a.flights, old)
            after = client.hgetall(M), client.xrange(S), client.get(F), client.get(C), client.zrange(U, 0, -1)
        assert after == before
        if deed not in ("abdicate", "beat"):
            assert reply == Refused("FENCED", str(new.epoch))


@pytest.mark.parametrize("deed", DEEDS)
async def test_an_epoch_is_its_owners_alone(server: RedisServer, deed: str) -> None:
    """The number alone is no right: another process that names the running epoch changes nothing either."""
    async with processes(server) as (a, b):
        epoch = await a.leads(KEY)
        await a.flights.append(KEY, epoch, 1, b"p", [b"mine"])
        with server.client as client:
            before = client.hgetall(M), client.xrange(S), client.get(C)
            await DEEDS[deed](b.flights, epoch)
            assert (client.hgetall(M), client.xrange(S), client.get(C)) == before


@pytest.mark.parametrize("deed", ["append", "finish", "idle"])
async def test_what_redis_has_forgotten_is_gone(server: RedisServer, deed: str) -> None:
    """The leader is told to seed it again; nothing is written under an epoch that Redis does not know."""
    async with processes(server, 1) as (a,):
        assert await DEEDS[deed](a.flights, 5) == Refused("GONE")
        with server.client as client:
            assert client.keys("*:[mscu]:*") == []
