"""Redis that is cut, crossed, gone or not Redis at all: misses, and never a wrong answer."""

from __future__ import annotations

import asyncio
import random
import tempfile
from pathlib import Path

import pytest

from cache.answer import SealedAnswer
from cache.codec import encode
from tests.fakes.answers import answer, key
from tests.fakes.eventually import eventually
from tests.fakes.nonsense_redis import nonsense_redis
from tests.fakes.real_redis import admin, supervised
from tests.fakes.redis_bench import bench, lane_on

pytestmark = pytest.mark.anyio

# A look-up may take 100 ms; the rest is for a machine that is busy with other things.
PATIENCE_S = 0.1 + 0.4

pytestmark = pytest.mark.anyio


async def test_cut_connections_cost_a_miss_and_no_more() -> None:
    """CLIENT KILL: the next look-up may miss, and hits are back with the next probe."""
    async with bench() as (made, _):
        assert await made.lane.store(answer(1))
        async with admin(made.socket) as client:
            for _ in range(5):
                await client.client_kill_filter(skipme=True, _type="normal")
                await made.lookup_in_time(1)
                await eventually(lambda: made.hits(1))


@pytest.mark.parametrize(
    "reply",
    [
        b"\xff\xfe\x00garbage\r\n" * 10,
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"+OK\r\n",
        b":42\r\n",
        b"*1\r\n:7\r\n",
        b"*2\r\n$-1\r\n$-1\r\n",
        b"*1\r\n*1\r\n$1\r\nx\r\n",
        b"$5\r\nhello\r\n",
        b"$99999999999999999999\r\n",
        b"-WHAT is this\r\n",
        b"*1\r\n-ERR inside\r\n",
    ],
)
async def test_server_that_talks_nonsense_is_a_miss_and_degraded(reply: bytes) -> None:
    """Whatever comes over the wire, a look-up ends in time and no loop dies."""
    with tempfile.TemporaryDirectory(prefix="rf-") as folder:
        socket = Path(folder) / "s"
        async with (
            nonsense_redis(socket, reply),
            supervised() as supervisor,
            lane_on(supervisor, socket) as made,
        ):
            for number in range(5):
                assert await made.lookup_in_time(number) is None
                assert not await made.lane.store(answer(number))
            await eventually(lambda: not made.lane.healthy)


async def test_server_that_hangs_up_is_a_miss() -> None:
    """Half a reply and the end of the connection."""
    with tempfile.TemporaryDirectory(prefix="rf-") as folder:
        socket = Path(folder) / "s"
        async with (
            nonsense_redis(socket, b"*1\r\n$100\r\nhalf", then_close=True),
            supervised() as supervisor,
            lane_on(supervisor, socket) as made,
        ):
            assert await made.lookup_in_time(1) is None
            await eventually(lambda: not made.lane.healthy)


async def test_crossed_reply_is_never_served() -> None:
    """A value that is perfect but another key's is a miss."""
    crossed = encode(answer(2))
    reply = b"*1\r\n$%d\r\n%s\r\n" % (len(crossed), crossed)
    with tempfile.TemporaryDirectory(prefix="rf-") as folder:
        socket = Path(folder) / "s"
        async with (
            nonsense_redis(socket, reply),
            supervised() as supervisor,
            lane_on(supervisor, socket) as made,
        ):
            assert await made.lookup_in_time(1) is None


async def test_nobody_there_is_a_miss_at_once() -> None:
    """No socket at all, from the start: degraded, and no look-up waits."""
    with tempfile.TemporaryDirectory(prefix="rf-") as folder:
        async with supervised() as supervisor, lane_on(supervisor, Path(folder) / "s") as made:
            assert await made.lookup_in_time(1) is None
            await eventually(lambda: not made.lane.healthy)


async def test_cancel_storm_over_a_real_connection_loses_no_reply() -> None:
    """2,000 look-ups, half of them cancelled: every other caller gets its own answer, none a neighbour's."""
    chance = random.Random(11)
    async with bench() as (made, _):
        for number in range(40):
            assert await made.lane.store(answer(number))
        asked: list[tuple[int, asyncio.Task[SealedAnswer | None]]] = []
        async with asyncio.TaskGroup() as group:
            for number in (chance.randrange(40) for _ in range(2000)):
                asked.append((number, group.create_task(made.lane.lookup(key(number)))))
                if chance.random() < 0.5:
                    asyncio.get_running_loop().call_later(chance.uniform(0, 0.002), asked[-1][1].cancel)
                if chance.random() < 0.2:
                    await asyncio.sleep(0)

        assert any(task.cancelled() for _, task in asked)
        assert all(task.cancelled() or _is_of(number, task.result()) for number, task in asked)
        assert all([await made.hits(number) for number in range(40)])


def _is_of(number: int, found: SealedAnswer | None) -> bool:
    return found is not None and (found.key, found.epoch) == (key(number), answer(number).epoch)
