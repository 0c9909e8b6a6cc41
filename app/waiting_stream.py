"""The stream of a turn that waits for the one before it, and then, on the same connection, its own."""

from __future__ import annotations

import asyncio
from typing import Final

from app import native_stream, sse
from app.connection import Connection
from app.cursor import cursor_given
from app.exchange import Exchange
from app.gateway import Gateway
from broadcast.log import Log
from broadcast.subscription import Subscription
from chatbot.record import Progress, Record
from chatbot.waiting import Waiting
from runtime.errors import BadCursor, StateUnavailable
from upstream.chunk import Chunk

#: There is nothing yet to be anywhere else in.
BEGINNING: Final = (0, 0)
#: Until it is known how a turn has ended whose process drains at the same time.
HEAR_S: Final = 1.0


class Leaving:
    """A process that drains no longer reads what waits in another; it has a moment to hear of its end."""

    def __init__(self, gateway: Gateway) -> None:
        self._manager = gateway.manager
        self._since: float | None = None

    @property
    def over(self) -> bool:
        if not self._manager.draining:
            return False
        now = asyncio.get_running_loop().time()
        self._since = now if self._since is None else self._since
        return now - self._since > HEAR_S


async def stream(exchange: Exchange, gateway: Gateway, waiting: Waiting, tenant: str) -> None:
    """Write until it has a record, and then that one's stream."""
    if cursor_given(exchange) not in (None, BEGINNING):
        raise BadCursor()
    headers = [(b"x-refrain-id", waiting.ticket.id.encode())]
    if exchange.head:
        await exchange.empty(200, [*sse.HEADERS, *headers])
        return
    manager = gateway.manager
    subscription: Subscription[Chunk] = Subscription(Log(0))
    with gateway.connections.watch(exchange, subscription) as connection:
        await connection.open(headers)
        with waiting.read_by(subscription):
            record = await _until_asked(connection, subscription, gateway, waiting, tenant)
        if record is None:
            return
        if exchange.span is not None:
            exchange.span.reads(record)
        async with manager.readable(record, None):
            subscription.log = record.broadcast.log
            subscription.rewind()
            with manager.reading(record, subscription):
                await native_stream.run(connection, subscription, manager, record, b"")


async def _until_asked(
    connection: Connection,
    subscription: Subscription[Chunk],
    gateway: Gateway,
    waiting: Waiting,
    tenant: str,
) -> Record | None:
    """Its record; None if its client has left. A process that only looks on asks Redis at every beat."""
    data, shown, leaving = sse.priming(*BEGINNING), None, Leaving(gateway)
    while not subscription.closed:
        try:
            found = await gateway.conversations.seek(waiting.ticket.id, tenant)
        except StateUnavailable:
            found = waiting  # Redis is away for a while
        if isinstance(found, Record):
            await connection.write(data)
            return found
        if found is not waiting and leaving.over:
            await connection.close(data)  # without an end: it may resume elsewhere
            return None
        shown, news = _news(shown, found.progress())
        data += news
        if not data and connection.silent:
            data = sse.PING
        if data:
            await connection.write(data)
            data = b""
        await subscription.wait()
    return None


def _news(shown: Progress | None, progress: Progress) -> tuple[Progress, bytes]:
    """What is shown from now on, and how. Nobody is sent back in the queue."""
    if shown is not None and (progress.queue_position or 1) >= (shown.queue_position or 1):
        return shown, b""
    return progress, sse.status(progress)
