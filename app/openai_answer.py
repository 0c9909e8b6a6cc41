"""The OpenAI wire: one request's answer as chunks, or as one JSON object.

The 200 goes out with the first chunk or after five seconds, whichever is first. Before that every
failure has its own HTTP status, so that the SDKs' retries work; after it, one error frame.
"""

from __future__ import annotations

import asyncio
from typing import Final

from app import sse
from app.connection import Connections
from app.errors import Cancelled
from app.exchange import Exchange, Headers
from broadcast.log import Form
from broadcast.outcome import End, Outcome
from broadcast.subscription import Subscription
from chatbot.manager import ChatManager
from chatbot.record import Record, Role
from runtime.errors import GatewayError, LeaderLost
from upstream.chunk import Chunk

PATIENCE_S: Final = 5.0
AT_ONCE: Final = 32_768  #: bytes of a log; on the wire they are little more, and below `connection.LARGE`


def fits_at_once(record: Record) -> bool:
    """A cached answer that is small goes out in one write, which waits for nobody."""
    return record.role is Role.CACHED and record.broadcast.log.size <= AT_ONCE


async def at_once(
    exchange: Exchange, manager: ChatManager, record: Record, *, streamed: bool, include_usage: bool
) -> None:
    """A hit needs no subscription, no watch on its client and no send timeout: a sixth of its cost."""
    if streamed:
        body = record.broadcast.log.since(0, _form(include_usage)) + sse.DONE
        await exchange.stream_at_once(body, [*sse.HEADERS, *reply_headers(record)])
    else:
        await exchange.respond(200, manager.completion(record), reply_headers(record, whole=True))


async def stream(
    exchange: Exchange,
    connections: Connections,
    manager: ChatManager,
    record: Record,
    include_usage: bool,
) -> None:
    """Stream the answer; raises the GatewayError it failed with while a status can still be sent."""
    form = _form(include_usage)
    subscription: Subscription[Chunk] = Subscription(record.broadcast.log)
    with connections.watch(exchange, subscription) as connection, manager.serving(record, subscription):
        await _first(record, subscription)
        if subscription.closed:
            return
        await connection.open(reply_headers(record))
        shown = 0
        while not subscription.closed:
            _follow_restart(record, subscription)
            data = subscription.take(form) if not record.alone else b""
            ended = record.claim.ended
            if ended is not None:
                error = error_of(ended)
                await connection.close(data + (sse.DONE if error is None else sse.openai_error(error)))
                return
            connection.waiting = not record.broadcast.live
            if connection.waiting and not data:
                position = manager.progress(record).queue_position or 0
                if position and position != shown:
                    data, shown = sse.comment(f"queue position {position}"), position
            if not data and connection.silent:
                data = sse.PING
            if data:
                await connection.write(data)
            await subscription.wait()


async def whole(exchange: Exchange, connections: Connections, manager: ChatManager, record: Record) -> None:
    """The answer as one object, once it is complete."""
    subscription: Subscription[Chunk] = Subscription(record.broadcast.log)
    with connections.watch(exchange, subscription) as connection, manager.serving(record, subscription):
        connection.waiting = False
        while record.claim.ended is None and not subscription.closed:
            await subscription.wait()
        ended = record.claim.ended
        if subscription.closed or ended is None:
            return
        error = error_of(ended)
        if error is not None:
            raise error
        await connection.respond(200, manager.completion(record), reply_headers(record, whole=True))


def _follow_restart(record: Record, subscription: Subscription[Chunk]) -> None:
    """Another process goes on, from the start. This wire has no word for that: who has seen text ends."""
    if subscription.voided:
        if subscription.cursor:
            record.claim.fail(LeaderLost())
        else:
            subscription.rewind()


def _form(include_usage: bool) -> Form[Chunk]:
    return sse.openai_usage_form if include_usage else sse.openai_form


def reply_headers(record: Record, *, whole: bool = False) -> Headers:
    headers = [
        (b"x-refrain-id", record.ticket.id.encode()),
        (b"cache-status", cache_status(record, whole=whole)),
    ]
    timing = server_timing(record)
    return [*headers, (b"server-timing", timing)] if timing else headers


def cache_status(record: Record, *, whole: bool = False) -> bytes:
    """RFC 9211. `stored` is only known to replies that are made when the answer is complete."""
    if record.cache == "hit":
        return b"refrain; hit; ttl=%d" % (record.hit_ttl_s or 0)
    if record.cache == "coalesced":
        return b"refrain; fwd=miss; collapsed"
    if record.cache == "bypass":
        return b"refrain; fwd=bypass"
    return b"refrain; fwd=miss; stored" if whole and record.broadcast.stored else b"refrain; fwd=miss"


def server_timing(record: Record) -> bytes:
    """One entry per stage that is over before the headers go out."""
    names = {"queue_ms": "leaders", "prepare_ms": "prepare", "slot_wait_ms": "llm_streams", "ttft_ms": "ttft"}
    entries = [("cache", None if record.lookup_ms is None else round(record.lookup_ms))]
    entries += [(names[key], value) for key, value in record.timings().items() if key in names]
    return ", ".join(f"{name};dur={value}" for name, value in entries if value is not None).encode()


def error_of(end: End) -> GatewayError | None:
    """None if it is complete."""
    if end.outcome is Outcome.COMPLETED:
        return None
    return end.error or Cancelled()


async def _first(record: Record, subscription: Subscription[Chunk]) -> None:
    """Until there is a first chunk, an end, or no more patience."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not subscription.closed and record.claim.ended is None and not subscription.behind:
                await subscription.wait()
                _follow_restart(record, subscription)
    except TimeoutError:
        return
    ended = record.claim.ended
    if ended is not None and not subscription.behind and (error := error_of(ended)) is not None:
        raise error
