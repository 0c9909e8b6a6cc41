"""What a newcomer meets: join or lead in one step, replay, registration, the cache, the amnesia guard."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cache.errors import StoreDown
from cache.flights import MAX_ENTRIES, Hit, Led, Refused, Wait, by_partition
from cache.names import fences, flight_keys, request_key
from cache.views import Batch, Ending, View
from tests.fakes.shared_redis import all_of, asking, key_of, lapse, processes
from tests.servers import RedisServer, standalone

pytestmark = pytest.mark.anyio
KEY = key_of(1)
ID = "c" + "0" * 36 + "01"
M, _, U, F, _ = flight_keys(KEY)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with standalone() as server:
        yield server


async def test_the_first_leads_and_the_next_joins_it(server: RedisServer) -> None:
    """One leader per key: the second is told whom to follow, and the first that somebody does."""
    async with processes(server) as (a, b):
        led = await a.flights.join(asking(KEY), 1.0)
        assert isinstance(led, Led)
        view = await b.follows(KEY)
        assert (view.epoch, view.owner, view.live, view.lapsed) == (led.epoch, a.name, True, False)
        assert (view.events, view.published, view.entries) == (0, False, [])
        await a.hears(f"W|{KEY}|{led.epoch}")


async def test_of_forty_at_once_one_leads(server: RedisServer) -> None:
    """From three processes in the same moment: exactly one process gets the claim, all agree on its epoch."""
    async with processes(server, 3) as procs:
        joined = await all_of(*(procs[n % 3].flights.join(asking(KEY), 2.0) for n in range(40)))
        owners = {one.owner for one in joined if isinstance(one, View)}
        leaders = {procs[n % 3].name for n, one in enumerate(joined) if isinstance(one, Led)}
        assert owners == leaders
        assert len(leaders) == 1
        assert len({one.epoch for one in joined if isinstance(one, Led | View)}) == 1


async def test_a_claim_whose_reply_was_lost_is_adopted(server: RedisServer) -> None:
    """The same call again is the same claim: nobody becomes a follower of himself (prototype bug b)."""
    async with processes(server, 1) as (a,):
        first = await a.leads(KEY)
        assert await a.flights.join(asking(KEY), 1.0) == Led(first)


async def test_a_fresh_claim_voids_the_one_before(server: RedisServer) -> None:
    """A flight that began without Redis registers itself: under an epoch above both."""
    async with processes(server, 1) as (a,):
        first = await a.leads(KEY)
        again = await a.flights.join(asking(KEY, fresh=True, floor=first + 10**6), 1.0)
        assert again == Led(first + 10**6 + 1)


async def test_what_i_published_before_is_not_continued(server: RedisServer) -> None:
    """Events are there of a log that this process no longer has: the claim begins anew, its log is empty."""
    async with processes(server) as (a, b):
        first = await a.leads(KEY)
        await a.flights.append(KEY, first, 1, b"", [b"x"])
        second = await a.leads(KEY)
        assert second > first
        assert (await b.follows(KEY)).entries == []


async def test_an_epoch_never_goes_back(server: RedisServer) -> None:
    """Not with a clock that goes back: the fence remembers the highest."""
    ahead = 10**14
    async with processes(server, 1) as (a,):
        with server.client as client:
            client.set(F, f"{ahead}|0")
        assert await a.leads(KEY) == ahead + 1
        assert await a.leads(key_of(1 + 64)) == ahead + 2, "the fence is the partition's"


async def test_who_may_not_lead_is_told_so(server: RedisServer) -> None:
    """MISS, and nothing is claimed."""
    async with processes(server, 1) as (a,):
        assert await a.flights.join(asking(KEY, lead=False), 1.0) == Refused("MISS")
        with server.client as client:
            assert client.exists(M) == 0


async def test_a_cached_answer_is_a_hit_for_those_who_want_it(server: RedisServer) -> None:
    """The look-up is part of the same step; `read_cache` False passes it by."""
    async with processes(server) as (a, b):
        epoch = await a.leads(KEY)
        assert await a.flights.finish(KEY, epoch, "completed", b"{}", 0, value=b"v", ttl_ms=5000) is None
        assert await b.flights.join(asking(KEY), 1.0) == Hit(b"v")
        assert isinstance(await b.flights.join(asking(KEY, read_cache=False), 1.0), Led)


async def test_a_lapsed_leader_is_succeeded_and_its_followers_told(server: RedisServer) -> None:
    """A newcomer leads; whoever followed the old one looks again; the new leader's old stakes are gone."""
    async with processes(server, 3) as (a, b, c):
        old = await a.leads(KEY)
        await b.follows(KEY)
        await c.follows(KEY)
        with server.client as client:
            lapse(client, KEY)
            new = await b.leads(KEY)
            assert new > old
            assert client.zrange(U, 0, -1) == [c.name, c.name + "i"]
        await c.hears(f"R|{KEY}|{new}")


async def test_joining_twice_is_joining_once(server: RedisServer) -> None:
    """A call that is sent again registers nobody twice, and replays the same."""
    async with processes(server) as (a, b):
        epoch = await a.leads(KEY)
        await a.flights.append(KEY, epoch, 1, b"p", [b"x", b"y"])
        first, second = await b.follows(KEY, "fi+"), await b.follows(KEY, "fi+")
        assert first.entries == second.entries == [Batch(1, [b"x", b"y"])]
        with server.client as client:
            assert client.zcard(U) == 3


async def test_a_joiner_gets_all_that_is_there_and_every_event_after(server: RedisServer) -> None:
    """Registration and replay are one step: no gap and no doubled event between the reply and the hints."""
    async with processes(server) as (a, b):
        epoch = await a.leads(KEY)
        await a.flights.append(KEY, epoch, 1, b"p", [b"1"])
        await a.flights.append(KEY, epoch, 2, b"q", [b"2", b"3"])
        view = await b.follows(KEY)
        assert view.entries == [Batch(1, [b"1"]), Batch(2, [b"2", b"3"])]
        # Nobody was there to hear of the phase since: it may be old, and is said anew.
        assert (view.events, view.published, view.phase) == (3, True, b"")
        await a.flights.append(KEY, epoch, 4, b"q", [b"4"])
        await b.hears(f"D|{KEY}|{epoch}|4")
        news = await b.flights.pull(KEY, epoch, view.events)
        assert news is not None
        assert (news.entries, news.phase) == ([Batch(4, [b"4"])], b"q")


async def test_a_long_log_comes_in_pieces(server: RedisServer) -> None:
    """At most MAX_ENTRIES in a reply, and the cursor goes on where it ended."""
    total = MAX_ENTRIES + 3
    async with processes(server) as (a, b):
        epoch = await a.leads(KEY)
        for n in range(1, total + 1):
            await a.flights.append(KEY, epoch, n, b"", [b"%d" % n])
        view = await b.follows(KEY)
        assert len(view.entries) == MAX_ENTRIES
        rest = await b.flights.pull(KEY, epoch, MAX_ENTRIES)
        assert rest is not None
        assert rest.entries == [Batch(n, [b"%d" % n]) for n in range(MAX_ENTRIES + 1, total + 1)]


async def test_after_a_loss_of_memory_nobody_leads_at_once(server: RedisServer) -> None:
    """The amnesia guard: living leaders get time to say so, and asking again does not prolong it."""
    async with processes(server, 2, guard_s=60.0) as (a, b):
        first = await a.flights.join(asking(KEY), 1.0)
        again = await b.flights.join(asking(KEY), 1.0)
        assert isinstance(first, Wait)
        assert isinstance(again, Wait)
        assert 50_000 < again.ms <= first.ms <= 60_000
        with server.client as client:
            assert client.exists(M) == 0
            client.set(F, "7|1")
        assert isinstance(await a.flights.join(asking(KEY), 1.0), Led)


async def test_a_leader_that_says_so_in_time_stays_the_only_one(server: RedisServer) -> None:
    """FLUSHALL under a running answer: a newcomer waits, and then joins the same epoch and ids."""
    async with processes(server, 2, guard_s=60.0) as (a, b):
        with server.client as client:
            client.set(F, "0|0")
            epoch = await a.leads(KEY)
            client.flushall()
        assert isinstance(await b.flights.join(asking(KEY), 1.0), Wait)
        assert await a.flights.reseed(KEY, epoch, b"p", published=True, chunks=[b"x", b"y"]) is None
        view = await b.follows(KEY)
        assert (view.epoch, view.entries) == (epoch, [Batch(1, [b"x", b"y"])])
        with server.client as client:
            assert int((client.get(F) or "").partition("|")[0]) == epoch


async def test_fences_are_set_once_everywhere(server: RedisServer) -> None:
    """A partition without a fence could be led in twice; a second look prolongs nothing."""
    async with processes(server, 1, guard_s=60.0) as (a,):
        first, second = await a.flights.fence(), await a.flights.fence(0.0)
        assert 50 < second <= first <= 60
        with server.client as client:
            assert sorted(client.keys("*:f")) == sorted(fences())
            client.flushall()
        assert await a.flights.fence(0.0) == 0.0
        assert isinstance(await a.flights.join(asking(KEY), 1.0), Led)


async def test_a_request_is_remembered_with_its_claim(server: RedisServer) -> None:
    """Its record is written in the same step as its role, and ends by itself."""
    async with processes(server) as (a, b):
        led = await a.flights.join(asking(KEY, id=ID), 1.0)
        other = ID[:-2] + "41"
        await b.flights.join(asking(KEY, id=other), 1.0)
        assert isinstance(led, Led)
        with server.client as client:
            known = client.hgetall(request_key(ID))
            assert known == {"a": "about", "r": "leader", "e": str(led.epoch), "o": a.name}
            assert client.hmget(request_key(other), "r", "o") == ["follower", b.name]
            assert 0 < client.pttl(request_key(ID)) <= 60_000


async def test_a_hit_is_remembered_as_ended(server: RedisServer) -> None:
    """With its end, for as long as an ended request is; one that nobody asks for later leaves nothing."""
    async with processes(server) as (a, b):
        epoch = await a.leads(KEY)
        await a.flights.finish(KEY, epoch, "completed", b"{}", 0, value=b"v", ttl_ms=5000)
        with server.client as client:
            assert await b.flights.join(asking(KEY, id=ID), 1.0) == Hit(b"v")
            assert client.exists(request_key(ID)) == 0
            await b.flights.join(asking(KEY, id=ID, hit=b"end"), 1.0)
            assert client.hmget(request_key(ID), "a", "r", "x", "o") == ["about", "cached", "end", b.name]
            assert 0 < client.pttl(request_key(ID)) <= 30_000


async def test_attach_follows_and_never_leads(server: RedisServer) -> None:
    """Of nothing there is nothing; of a running flight all, with how many others are interested."""
    async with processes(server, 3) as (a, b, c):
        assert await b.flights.attach(KEY, "fi") is None
        led = await a.flights.join(asking(KEY, body=b'{"q":1}'), 1.0)
        assert isinstance(led, Led)
        await c.follows(KEY)
        view = await b.flights.attach(KEY, "f")
        assert view is not None
        assert (view.epoch, view.body, view.interested) == (led.epoch, b'{"q":1}', 1)
        await a.hears(f"W|{KEY}|{led.epoch}")
        with server.client as client:
            assert set(client.zrange(U, 0, -1)) == {b.name, c.name, c.name + "i"}


async def test_attach_to_what_has_ended_shows_it_and_registers_nobody(server: RedisServer) -> None:
    """Who looks a moment too late still reads the end."""
    async with processes(server) as (a, b):
        epoch = await a.leads(KEY)
        await a.flights.finish(KEY, epoch, "failed", b"why", 1, publish=True, first=1, chunks=[b"x"])
        view = await b.flights.attach(KEY, "fi+")
        assert view is not None
        assert (view.state, view.live) == ("failed", False)
        assert view.entries == [Batch(1, [b"x"]), Ending("failed", b"why")]
        with server.client as client:
            assert client.exists(U) == 0


async def test_a_pull_of_an_old_epoch_brings_the_new_one_whole(server: RedisServer) -> None:
    """After a takeover a cursor of the old log means nothing."""
    async with processes(server) as (a, b):
        assert await b.flights.pull(KEY, 5, 0) is None
        epoch = await a.leads(KEY)
        await a.flights.append(KEY, epoch, 1, b"", [b"x", b"y"])
        view = await b.flights.pull(KEY, epoch - 1, 2)
        assert view is not None
        assert (view.epoch, view.entries) == (epoch, [Batch(1, [b"x", b"y"])])
        seen = await b.flights.pull(KEY, epoch, 2)
        assert seen is not None
        assert seen.entries == []


async def test_a_stake_says_exactly_what_is_wanted(server: RedisServer) -> None:
    """What is no longer said is withdrawn at once; the leader is told to look each time."""
    async with processes(server) as (a, b):
        epoch = await a.leads(KEY)
        for stake, names in (("fi+", {"", "i", "+"}), ("fi", {"", "i"}), ("f", {""}), ("", set())):
            a.heard.clear()
            await b.flights.stake(KEY, stake)
            with server.client as client:
                assert set(client.zrange(U, 0, -1)) == {b.name + name for name in names}
            await a.hears(f"W|{KEY}|{epoch}")


async def test_a_reply_that_makes_no_sense_is_no_reply(server: RedisServer) -> None:
    """Somebody else's data under our name must not become a crash of the process."""
    async with processes(server, 1) as (a,):
        with server.client as client:
            client.hset(M, mapping={"e": 5, "st": "live", "o": b"\xff", "l": 10**15, "n": 0})
        with pytest.raises(StoreDown):
            await a.flights.pull(KEY, 0, 0)


def test_a_beat_is_one_script_per_partition() -> None:
    """Keys of one partition share a slot, and so one script."""
    keys = [key_of(1), key_of(2), key_of(65)]
    assert by_partition(keys) == {1: [keys[0], keys[2]], 2: [keys[1]]}
