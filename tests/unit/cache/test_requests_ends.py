"""Who may say how a request has ended, and whose word stays, when several say so at the same time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cache.requests import SharedRequests
from tests.fakes.shared_redis import processes
from tests.servers import RedisServer, standalone

pytestmark = pytest.mark.anyio
ID = "chat_" + "0" * 32 + "02"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with standalone() as server:
        yield server


async def test_what_a_reader_elsewhere_is_told_its_owner_cannot_cancel(server: RedisServer) -> None:
    """`done` was delivered: a cancel that its owner took too late is found to be one."""
    async with processes(server) as procs:
        owner, reader = (SharedRequests(proc.link) for proc in procs)
        await owner.remember(ID, b"about", "follower", 5, 60_000)
        assert await reader.ended(ID, b"done", 60_000, 5, how="p") == b"done"
        assert await owner.ended(ID, b"cancelled", 60_000, 5) == b"done"
        known = await reader.recall(ID)
        assert known is not None
        assert known.end == b"done"
        await procs[0].hears(f"X|{ID}")


async def test_its_owner_says_the_same_in_its_own_words(server: RedisServer) -> None:
    """Only it knows how long each stage took."""
    async with processes(server) as procs:
        owner, reader = (SharedRequests(proc.link) for proc in procs)
        await owner.remember(ID, b"about", "follower", 5, 60_000)
        await reader.ended(ID, b"done", 60_000, 5, how="p")
        assert await owner.ended(ID, b"done, with times", 60_000, 5, how="s") == b"done, with times"
        assert await reader.ended(ID, b"done", 60_000, 5, how="p") == b"done, with times"


async def test_what_its_owner_has_said_before_is_told(server: RedisServer) -> None:
    """A cancel that it took in time is what the reader hears."""
    async with processes(server) as procs:
        owner, reader = (SharedRequests(proc.link) for proc in procs)
        await owner.remember(ID, b"about", "follower", 5, 60_000)
        await owner.ended(ID, b"cancelled", 60_000, 5)
        assert await reader.ended(ID, b"done", 60_000, 5, how="p") == b"cancelled"


@pytest.mark.parametrize("how", ["", "s"])
async def test_a_wish_that_a_reader_has_been_told_of_is_no_wish_any_more(
    server: RedisServer, how: str
) -> None:
    """Cancelled there, and whoever wished it is told so: its owner can say otherwise no more."""
    async with processes(server, 3) as procs:
        owner, reader, canceller = (SharedRequests(proc.link) for proc in procs)
        await owner.remember(ID, b"about", "follower", 5, 60_000)
        assert await canceller.ended(ID, b"cancelled", 60_000, how="w") == b"cancelled"
        assert await reader.ended(ID, b"done", 60_000, 5, how="p") == b"cancelled"
        assert await owner.ended(ID, b"done", 60_000, 5, how="s" if how else "") == b"cancelled"
        assert await canceller.final(ID) == b"cancelled"


async def test_an_openai_call_that_is_over_is_not_known(server: RedisServer) -> None:
    """Its owner has forgotten it: nothing is noted of it again."""
    async with processes(server) as procs:
        reader = SharedRequests(procs[1].link)
        assert await reader.ended(ID, b"done", 60_000, 5, how="p") is None
        assert await reader.recall(ID) is None
