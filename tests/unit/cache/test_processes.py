"""Which processes there are: the living are counted, the dead are known at once and for long enough."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cache.names import DEAD, PROCESSES
from cache.processes import BURIED_S, Processes, bury, new_proc
from tests.fakes.eventually import eventually
from tests.fakes.shared_redis import LONG_AGO, forever, processes
from tests.servers import RedisServer, standalone

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with standalone() as server:
        yield server


async def test_the_living_are_counted(server: RedisServer) -> None:
    """Each as often as it likes, once; who has not beaten for its lease is not counted."""
    async with processes(server, 3) as procs:
        lives = [Processes(proc.link, 15.0) for proc in procs]
        assert [one.count for one in lives] == [1, 1, 1]
        for one in (*lives, *lives):
            await one.beat()
        assert lives[0].count == 3
        with server.client as client:
            client.zadd(PROCESSES, {procs[2].name: LONG_AGO})
            await lives[0].beat()
            assert lives[0].count == 2
            assert forever(client) == []


async def test_a_death_is_news_once(server: RedisServer) -> None:
    """Pushed to the living at once, said again by each beat, acted on one time."""
    async with processes(server, 2) as (a, b):
        lives = Processes(a.link, 15.0)
        died: list[str] = []
        lives.on_death(died.append)
        await lives.beat()
        for _ in range(2):
            await bury(b.link, "f" * 16, 15.0)
        await eventually(lambda: died == ["f" * 16], within=5.0)
        await lives.beat()
        assert died == ["f" * 16]
        assert lives.dead == {"f" * 16}


async def test_a_death_whose_push_was_lost_is_found_by_the_beat(server: RedisServer) -> None:
    """Nobody is waited for until his lease ends because a message was lost."""
    async with processes(server, 2) as (a, b):
        lives = Processes(b.link, 15.0)
        died: list[str] = []
        lives.on_death(died.append)
        await bury(a.link, "f" * 16, 15.0)  # it has not beaten yet, so nothing is pushed to it
        await b.has_heard_all()
        assert died == []
        await lives.beat()
        assert died == ["f" * 16]


async def test_the_dead_are_remembered_longer_than_what_they_held(server: RedisServer) -> None:
    """For four leases, and two minutes at least; then they are forgotten."""
    async with processes(server, 1) as (a,):
        lives = Processes(a.link, 15.0)
        for lease_s, keep_s in ((15.0, BURIED_S), (100.0, 400.0)):
            await bury(a.link, "f" * 16, lease_s)
            with server.client as client:
                seconds, _ = client.time()
                until = client.zscore(DEAD, "f" * 16)
                assert until is not None
                assert keep_s - 5 < until / 1000 - seconds <= keep_s + 1
        with server.client as client:
            client.zadd(DEAD, {"f" * 16: LONG_AGO})
        await lives.beat()
        assert lives.dead == frozenset()


def test_no_two_starts_share_a_name() -> None:
    """16 hex digits, which the scripts take a stake apart by."""
    names = {new_proc() for _ in range(100)}
    assert len(names) == 100
    assert all(len(name) == 16 and int(name, 16) >= 0 for name in names)
