"""The native stream: a request's events as SSE, from a cursor on, ending in exactly one terminal event."""

from __future__ import annotations

from app import sse
from app.connection import Connection, Connections
from app.cursor import Start
from app.exchange import Exchange, Headers
from broadcast.subscription import Subscription
from chatbot.manager import ChatManager
from chatbot.record import Progress, Record
from upstream.chunk import Chunk


async def stream(
    exchange: Exchange,
    connections: Connections,
    manager: ChatManager,
    record: Record,
    start: Start,
    headers: Headers,
) -> None:
    """Write the stream until its end, or until the client leaves or is cut."""
    broadcast = record.broadcast
    subscription: Subscription[Chunk] = Subscription(broadcast.log, broadcast.log.index_after(start.seq))
    with connections.watch(exchange, subscription) as connection, manager.reading(record, subscription):
        await connection.open(headers)
        opening = sse.priming(*start.cursor)
        if start.reset:
            opening += sse.reset(broadcast.log.epoch)
        await run(connection, subscription, manager, record, opening)


async def run(
    connection: Connection,
    subscription: Subscription[Chunk],
    manager: ChatManager,
    record: Record,
    data: bytes,
) -> None:
    """The same on a connection that is open already; `data` goes first."""
    shown: Progress | None = None
    while not subscription.closed:
        if subscription.released:
            await connection.close(data)
            return
        data += _restart(subscription)
        if record.claim.ended is not None:
            await _end(connection, subscription, manager, record, data)
            return
        if connection.waiting:
            progress = manager.progress(record)
            if progress != shown:
                data += sse.status(progress)
                shown = progress
            connection.waiting = progress.stage != "streaming"
        data += subscription.take(sse.native_form)
        if not data and connection.silent:
            data = sse.PING
        if data:
            await connection.write(data)
            data = b""
        await subscription.wait()
        # A retry or a deserted queue brings a running stream back to waiting.
        connection.waiting = connection.waiting or not record.broadcast.live


async def _end(
    connection: Connection,
    subscription: Subscription[Chunk],
    manager: ChatManager,
    record: Record,
    data: bytes,
) -> None:
    """The rest, and how it has ended."""
    if not record.alone:  # what others get after a request's own end is not its own any more
        data += subscription.take(sse.native_form)
        if record.broadcast.foreign.following:
            # Another process may be asked next: who knows of the flight is to know of its end by then.
            if data:
                await connection.write(data)
            await manager.level(record)
            data = b""
    await connection.close(data + sse.terminal(record))


def _restart(subscription: Subscription[Chunk]) -> bytes:
    """Another process goes on, from the start: what this reader has is void."""
    if not subscription.voided:
        return b""
    data = sse.reset(subscription.log.epoch) if subscription.cursor else b""
    subscription.rewind()
    return data
