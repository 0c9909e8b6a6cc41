"""The breaker's states, probe by probe."""

from __future__ import annotations

import asyncio
import logging

import pytest

from cache.breaker import Breaker, State
from cache.errors import StoreDown, StoreError, StoreRefused
from tests.fakes.answer_store import MemoryAnswerStore
from tests.fakes.real_redis import supervised
from tests.virtual_time import virtual


@virtual
async def test_first_trouble_opens_it_and_only_a_good_probe_closes_it() -> None:
    """Trips, failing probes and good probes lead through the table of docs/design/redis.md."""
    store = MemoryAnswerStore()
    breaker = Breaker(store.ping)
    breaker.trip("get: TimeoutError")
    assert breaker.state is State.OPEN

    store.trouble = StoreDown("ping")
    await breaker.check()
    assert breaker.state is State.OPEN

    store.trouble = None
    await breaker.check()
    assert breaker.closed


@virtual
async def test_it_is_not_closed_while_the_probe_is_out() -> None:
    """Half-open lets the probe through and nobody else."""
    store = MemoryAnswerStore()
    breaker = Breaker(store.ping)
    breaker.trip("get: TimeoutError")
    store.gate.clear()

    async with asyncio.TaskGroup() as group:
        group.create_task(breaker.check())
        await asyncio.sleep(0)
        assert breaker.state is State.HALF_OPEN
        assert not breaker.closed
        store.gate.set()

    assert breaker.closed


@pytest.mark.parametrize("trouble", [StoreDown("ping"), StoreRefused("ping: BusyLoadingError")])
def test_failing_probe_opens_a_closed_breaker(trouble: StoreError) -> None:
    """A server that loads or wants a password serves no hits, even if no look-up has found out yet."""

    @virtual
    async def run() -> None:
        store = MemoryAnswerStore()
        store.trouble = trouble
        breaker = Breaker(store.ping)
        await breaker.check()
        assert breaker.state is State.OPEN

    run()


@virtual
async def test_owned_loop_brings_it_back_within_the_second() -> None:
    """However long the trouble lasted, the next probe after it closes the breaker."""
    store = MemoryAnswerStore()
    breaker = Breaker(store.ping)
    async with supervised() as supervisor:
        loop = [supervisor.own("probe", breaker.run())]
        store.trouble = StoreDown("ping")
        await asyncio.sleep(3600)
        assert not breaker.closed
        store.trouble = None
        await asyncio.sleep(1)
        assert breaker.closed
        assert not loop[0].done()


@virtual
async def test_trip_is_checked_at_once_but_not_again_and_again() -> None:
    """One quick probe clears up a false alarm; a server that answers nothing but probes gets no second."""
    store = MemoryAnswerStore()
    breaker = Breaker(store.ping)
    async with supervised() as supervisor:
        loop = [supervisor.own("probe", breaker.run())]
        await asyncio.sleep(60.1)
        breaker.trip("get: TimeoutError")
        await asyncio.sleep(0.001)
        assert breaker.closed

        breaker.trip("get: TimeoutError")
        await asyncio.sleep(0.001)
        assert not breaker.closed
        await asyncio.sleep(1)
        assert breaker.closed
        assert not loop[0].done()


@virtual
async def test_opening_is_told_once_per_trouble() -> None:
    """Waiters are flushed when it opens, and a hundred failures later it is still one opening."""
    opened: list[bool] = []
    breaker = Breaker(MemoryAnswerStore().ping, on_open=lambda: opened.append(breaker.closed))
    for _ in range(100):
        breaker.trip("get: TimeoutError")

    assert opened == [False]


def test_log_has_one_line_per_change(caplog: pytest.LogCaptureFixture) -> None:
    """A Redis that is gone for an hour costs two lines, not one per request or probe."""

    @virtual
    async def run() -> None:
        store = MemoryAnswerStore()
        breaker = Breaker(store.ping)
        async with supervised() as supervisor:
            loop = [supervisor.own("probe", breaker.run())]
            store.trouble = StoreDown("ping: ConnectionError")
            for _ in range(3600):
                await asyncio.sleep(1)
                breaker.trip("get: ConnectionError")
            store.trouble = None
            await asyncio.sleep(2)
            assert not loop[0].done()

    with caplog.at_level(logging.INFO, "refrain.cache"):
        run()

    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


@virtual
async def test_cancelled_probe_leaves_it_open() -> None:
    """Cancellation takes the path of failure: it is never left half-open."""
    store = MemoryAnswerStore()
    breaker = Breaker(store.ping)
    breaker.trip("get: TimeoutError")
    store.gate.clear()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await breaker.check()

    assert breaker.state is State.OPEN
