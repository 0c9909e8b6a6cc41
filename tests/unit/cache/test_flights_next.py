"""When another flight may take the place of one that has ended: not before its followers have read how."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cache.flights import Led, Wait
from cache.views import Ending
from tests.fakes.shared_redis import asking, key_of, lapse, processes
from tests.servers import RedisServer, standalone

pytestmark = pytest.mark.anyio
KEY = key_of(1)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with standalone() as server:
        yield server


@pytest.mark.parametrize("how", ["failed", "cancelled"])
async def test_who_follows_reads_the_end_before_another_flight_takes_its_place(
    server: RedisServer, how: str
) -> None:
    """It would take the next answer for the end of this one; for a moment only, since it may be frozen."""
    async with processes(server, 3) as (a, b, c):
        epoch = await a.leads(KEY)
        await b.follows(KEY, "f")
        if how == "failed":
            await a.flights.finish(KEY, epoch, how, b"{}", 0)
        else:
            await a.flights.idle(KEY, epoch, how, b"{}", 1.0)
        waits = await c.flights.join(asking(KEY), 1.0)
        assert isinstance(waits, Wait)
        assert 0 < waits.ms <= 10
        view = await b.flights.pull(KEY, epoch, 0)
        assert view is not None
        assert (view.epoch, view.entries) == (epoch, [Ending(how, b"{}")])
        adopted = await c.flights.join(asking(KEY, floor=epoch), 1.0)
        assert isinstance(adopted, Led)  # whoever goes on with it knows how it ended
        assert adopted.epoch > epoch
        await c.flights.finish(KEY, adopted.epoch, "failed", b"{}", 0)
        await b.flights.stake(KEY, "")
        assert await a.leads(KEY) > adopted.epoch


async def test_who_follows_and_does_not_read_is_waited_for_a_moment_only(server: RedisServer) -> None:
    """It is frozen, or gone without a word: the next flight begins all the same."""
    async with processes(server, 3) as (a, b, c):
        epoch = await a.leads(KEY)
        await b.follows(KEY)
        await a.flights.finish(KEY, epoch, "failed", b"{}", 0)
        assert isinstance(await c.flights.join(asking(KEY), 1.0), Wait)
        with server.client as client:
            lapse(client, KEY)
        assert await c.leads(KEY) > epoch
