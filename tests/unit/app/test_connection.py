"""A streaming connection: one watcher, one write at a time, and an end in every case."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from app.connection import SILENCE_S, Connection, Connections
from app.exchange import Exchange
from app.pulse import BEAT_S, Pulse
from broadcast.log import Log
from broadcast.subscription import Subscription
from runtime.supervisor import Supervisor
from tests.cancellation import cancel_at_every_await
from tests.fakes.asgi import Peer
from tests.fakes.turns import settle
from tests.virtual_time import virtual
from upstream.chunk import Chunk

SEND_TIMEOUT_S = 10.0


@asynccontextmanager
async def running() -> AsyncIterator[tuple[Connections, Supervisor]]:
    supervisor, pulse = Supervisor(), Pulse()
    supervisor.own("pulse", pulse.run())
    try:
        yield Connections(supervisor, pulse, SEND_TIMEOUT_S), supervisor
    finally:
        await supervisor.close()


def reader(peer: Peer) -> tuple[Exchange, Subscription[Chunk]]:
    return Exchange(peer.scope, peer.receive, peer.send), Subscription(Log[Chunk](1))


@virtual
async def test_a_client_that_leaves_closes_its_subscription_at_once() -> None:
    """Without a write: a server's send tells nothing. What else it sends on the way is let pass."""
    async with running() as (connections, _):
        peer = Peer(body=[b"late", b"bytes"])
        exchange, subscription = reader(peer)
        with connections.watch(exchange, subscription):
            await settle()
            assert not subscription.closed
            peer.leave()
            await settle()
            assert subscription.closed


@virtual
async def test_nothing_is_written_to_a_client_that_has_left() -> None:
    """Each such write would be work for nobody."""
    async with running() as (connections, _):
        peer = Peer()
        exchange, subscription = reader(peer)
        with connections.watch(exchange, subscription) as connection:
            subscription.close()
            await connection.open([])
            await connection.write(b"x")
            await connection.close(b"y")
    assert peer.messages == []


@virtual
async def test_the_block_leaves_nothing_behind() -> None:
    """The watcher ends, the pulse forgets, the subscription is closed, whatever way it is left."""
    async with running() as (connections, supervisor):
        for error in (None, KeyError(), asyncio.CancelledError()):
            exchange, subscription = reader(Peer())
            try:
                with connections.watch(exchange, subscription):
                    assert len(connections) == 1
                    if error is not None:
                        raise error
            except (KeyError, asyncio.CancelledError):
                pass
            await settle()
            assert (len(connections), len(supervisor)) == (0, 1)
            assert subscription.closed


@virtual
async def test_a_cancel_at_any_await_leaves_nothing_behind() -> None:
    """A server that cancels its handlers must not find watchers of theirs."""
    async with running() as (connections, supervisor):

        async def serve() -> None:
            peer = Peer()
            exchange, subscription = reader(peer)
            with connections.watch(exchange, subscription) as connection:
                peer.reading.clear()
                asyncio.get_running_loop().call_later(1.0, peer.reading.set)
                await connection.open([])
                asyncio.get_running_loop().call_later(1.0, subscription.wake)
                await subscription.wait()
                await subscription.wait()
                await connection.close(b"end")

        async def check(n: int) -> None:
            await settle()
            assert (len(connections), len(supervisor)) == (0, 1), n

        assert await cancel_at_every_await(serve, check) == 2


@virtual
async def test_quiet_waits_for_the_last_stream() -> None:
    """What the drain waits for."""
    async with running() as (connections, _):
        await connections.quiet()
        first, second = reader(Peer()), reader(Peer())
        with connections.watch(*first):
            with connections.watch(*second):
                pass
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.0):
                    await connections.quiet()
        await connections.quiet()


@virtual
async def test_a_slow_reader_is_not_one_that_takes_nothing() -> None:
    """A large piece may take longer than the send timeout, as long as something of it is taken."""
    async with running() as (connections, _), asyncio.TaskGroup() as group:
        peer = Peer()
        peer.unsent = 1000
        exchange, subscription = reader(peer)
        with connections.watch(exchange, subscription) as connection:
            peer.reading.clear()
            group.create_task(_open(connection))
            for _ in range(10):
                await asyncio.sleep(SEND_TIMEOUT_S - 1)
                peer.unsent -= 1
            assert not peer.aborted
            await asyncio.sleep(SEND_TIMEOUT_S + 2 * BEAT_S)
            assert peer.aborted


@virtual
async def test_a_write_that_takes_too_long_cuts_its_connection_alone() -> None:
    """Only writes count: a reader that is slow but reads, or has nothing to read, stays."""
    async with running() as (connections, _), asyncio.TaskGroup() as group:
        frozen, quiet = Peer(), Peer()
        first, second = reader(frozen), reader(quiet)
        with connections.watch(*first) as stuck, connections.watch(*second):
            frozen.reading.clear()
            group.create_task(_open(stuck))
            await asyncio.sleep(SEND_TIMEOUT_S)
            assert not frozen.aborted
            await asyncio.sleep(2 * BEAT_S)
            assert (frozen.aborted, quiet.aborted, connections.cut) == (True, False, 1)
            assert (first[1].closed, second[1].closed) == (True, False)


async def _open(connection: Connection) -> None:
    await connection.open([])


@virtual
async def test_slow_writes_that_end_in_time_cut_nobody() -> None:
    """The timeout bounds one write, not the sum of them."""
    async with running() as (connections, _):
        peer = Peer()
        exchange, subscription = reader(peer)
        loop = asyncio.get_running_loop()
        with connections.watch(exchange, subscription) as connection:
            await connection.open([])
            for _ in range(5):
                peer.reading.clear()
                loop.call_later(SEND_TIMEOUT_S - 1, peer.reading.set)
                await connection.write(b"x")
        assert not peer.aborted


@virtual
async def test_a_running_stream_is_woken_for_its_keepalive_only() -> None:
    """Whoever waits is looked at with each beat, because its place may have changed; the others sleep."""
    async with running() as (connections, _), asyncio.TaskGroup() as group:
        wakes: dict[str, int] = {}
        for name, waiting in (("waits", True), ("streams", False)):
            group.create_task(_count_wakes(connections, name, waiting, wakes))
        await asyncio.sleep(SILENCE_S - BEAT_S)
        assert wakes["streams"] == 1
        assert wakes["waits"] >= 38
        await asyncio.sleep(2 * BEAT_S)
        assert wakes["streams"] >= 2


async def _count_wakes(connections: Connections, name: str, waiting: bool, wakes: dict[str, int]) -> None:
    exchange, subscription = reader(Peer())
    with connections.watch(exchange, subscription) as connection:
        connection.waiting = waiting
        until = asyncio.get_running_loop().time() + SILENCE_S + 1
        while asyncio.get_running_loop().time() < until:
            await subscription.wait()
            wakes[name] = wakes.get(name, 0) + 1


@virtual
async def test_a_whole_answer_is_bounded_by_the_same_timeout() -> None:
    """One object of megabytes freezes a connection just as a stream does."""
    async with running() as (connections, _), asyncio.TaskGroup() as group:
        peer = Peer()
        exchange, subscription = reader(peer)
        with connections.watch(exchange, subscription) as connection:
            peer.reading.clear()
            group.create_task(connection.respond(200, b"{}", []))
            await asyncio.sleep(SEND_TIMEOUT_S + 2 * BEAT_S)
            assert peer.aborted
