"""What is known of a request everywhere: its record, its one end, and who was first with a request_id."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cache.errors import StoreDown
from cache.names import once_key, request_key
from cache.requests import Known, SharedRequests
from tests.fakes.shared_redis import Proc, all_of, forever, processes
from tests.servers import RedisServer, standalone

pytestmark = pytest.mark.anyio
ID = "chat_" + "0" * 32 + "01"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with standalone() as server:
        yield server


def requests_of(*procs: Proc) -> list[SharedRequests]:
    return [SharedRequests(proc.link) for proc in procs]


async def test_what_one_remembers_all_recall(server: RedisServer) -> None:
    """Until its time is over; an unknown id is None."""
    async with processes(server) as procs:
        a, b = requests_of(*procs)
        assert await b.recall(ID) is None
        for _ in range(2):
            await a.remember(ID, b"about", "leader", 5, 60_000)
        assert await b.recall(ID) == Known(b"about", "leader", 5, procs[0].name, b"")
        with server.client as client:
            assert forever(client) == []
        await b.forget(ID)
        assert await a.recall(ID) is None


async def test_the_first_end_stays_among_those_who_do_not_have_it(server: RedisServer) -> None:
    """Two cancels on two workers: one of them is the end, and the owner and its readers hear of it."""
    async with processes(server, 4) as procs:
        owner, reader, one, other = requests_of(*procs)
        await owner.remember(ID, b"about", "leader", 5, 60_000)
        assert await reader.recall(ID, reading=True) is not None
        assert await one.ended(ID, b"cancelled", 60_000) == b"cancelled"
        assert await other.ended(ID, b"lost", 60_000, 9) == b"cancelled"
        await procs[0].hears(f"X|{ID}")
        await procs[1].hears(f"X|{ID}")
        await procs[2].has_heard_all()
        assert procs[2].heard == []
        known = await reader.recall(ID)
        assert known is not None
        assert (known.end, known.epoch) == (b"cancelled", 5)


@pytest.mark.parametrize(("promised", "end"), [(False, b"completed"), (True, b"cancelled")])
async def test_the_owner_has_the_last_word_unless_another_end_was_promised(
    server: RedisServer, promised: bool, end: bytes
) -> None:
    """It completed before it heard of the cancel; once somebody was told of a cancel, that one stays."""
    async with processes(server) as procs:
        owner, canceller = requests_of(*procs)
        await owner.remember(ID, b"about", "leader", 5, 60_000)
        await canceller.ended(ID, b"cancelled", 60_000)
        if promised:
            assert await canceller.final(ID) == b"cancelled"
        assert await owner.ended(ID, b"completed", 60_000) == end
        assert await canceller.final(ID) == end


async def test_who_ends_its_own_request_tells_its_readers_alone(server: RedisServer) -> None:
    """The owner knows; said twice, it is heard at least once."""
    async with processes(server) as procs:
        owner, reader = requests_of(*procs)
        await owner.remember(ID, b"about", "leader", 5, 60_000)
        await reader.recall(ID, reading=True)
        for _ in range(2):
            assert await owner.ended(ID, b"completed", 60_000, 7) == b"completed"
        for proc in procs:
            await proc.has_heard_all()
        assert [set(proc.heard) for proc in procs] == [set(), {f"X|{ID}"}]
        known = await reader.recall(ID)
        assert known is not None
        assert known.epoch == 7


async def test_a_canceller_learns_when_the_owner_has_heard(server: RedisServer) -> None:
    """Only once the owner has met the end of another may the other say that it is so."""
    async with processes(server) as procs:
        owner, canceller = requests_of(*procs)
        await owner.remember(ID, b"about", "leader", 5, 60_000)
        assert await canceller.owner_knows(ID)
        await canceller.ended(ID, b"cancelled", 60_000)
        assert not await canceller.owner_knows(ID)
        await owner.ended(ID, b"cancelled", 60_000)
        assert await canceller.owner_knows(ID)


async def test_an_end_of_nothing_is_nothing(server: RedisServer) -> None:
    """Forgotten or never known: no record is made up for it."""
    async with processes(server, 1) as procs:
        (one,) = requests_of(*procs)
        assert await one.ended(ID, b"completed", 60_000) is None
        with server.client as client:
            assert client.exists(request_key(ID)) == 0


async def test_reading_an_ended_request_registers_nobody(server: RedisServer) -> None:
    """There is no second end to hear of."""
    async with processes(server) as procs:
        owner, reader = requests_of(*procs)
        await owner.remember(ID, b"about", "leader", 5, 60_000)
        await owner.ended(ID, b"completed", 60_000)
        await reader.recall(ID, reading=True)
        with server.client as client:
            assert not any(name.startswith("@") for name in client.hkeys(request_key(ID)))


async def test_a_request_id_belongs_to_the_first(server: RedisServer) -> None:
    """Row 41: of twenty at once over two processes one wins, and all agree on who."""
    async with processes(server) as procs:
        both = requests_of(*procs)
        won = await all_of(*(both[n % 2].first("t", "r", f"id{n}|digest", 60_000) for n in range(20)))
        assert len(set(won)) == 1
        winner = str(won[0])
        assert await both[0].first("t", "r", winner, 60_000) == winner
        assert await both[0].first("other", "r", "mine|d", 60_000) == "mine|d"


async def test_a_stale_claim_is_replaced_by_one_alone(server: RedisServer) -> None:
    """Its process died before it admitted anything: of those who saw that, one takes its place."""
    async with processes(server) as procs:
        a, b = requests_of(*procs)
        await a.first("t", "r", "dead|d", 60_000)
        assert await a.first("t", "r", "a|d", 60_000, stale="dead|d") == "a|d"
        assert await b.first("t", "r", "b|d", 60_000, stale="dead|d") == "a|d"


async def test_a_refused_submit_releases_its_own_claim_only(server: RedisServer) -> None:
    """A release that comes late must not open somebody else's."""
    async with processes(server) as procs:
        a, b = requests_of(*procs)
        await a.first("t", "r", "a|d", 60_000)
        await b.release("t", "r", "b|d")
        assert await b.first("t", "r", "b|d", 60_000) == "a|d"
        await a.release("t", "r", "a|d")
        assert await b.first("t", "r", "b|d", 60_000) == "b|d"
        with server.client as client:
            assert client.pttl(once_key("t", "r")) > 0


async def test_a_record_that_makes_no_sense_is_no_reply(server: RedisServer) -> None:
    """Somebody else's data under our name: an error that callers expect."""
    async with processes(server, 1) as procs:
        (one,) = requests_of(*procs)
        with server.client as client:
            client.hset(request_key(ID), mapping={"a": "about", "r": "leader", "e": "five", "o": "x"})
        with pytest.raises(StoreDown):
            await one.recall(ID)
