"""The inbox of a process: short messages that others push to it. What they carry is a hint, never the data.

A subscription is never trusted to heal: after a hung master redis-py's stays silent for ever. Any error, and
any silence where an echo was due, brings a new one on a new connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, Protocol

from redis.exceptions import RedisError

from cache.errors import StoreError
from cache.targets import close

log = logging.getLogger("refrain.link")

#: An echo is sent so often, and must be back by the next.
ECHO_S: Final = 2.0
_RETRY_S: Final = 0.25
_SUBSCRIBE_S: Final = 1.0
_ECHO = "."


class Publisher(Protocol):
    @property
    def up(self) -> bool: ...

    async def do(self, *command: str | bytes | int, timeout_s: float = 1.0) -> Any: ...


class Inbox:
    """`connect` gives a client of its own, `on_subscribed` is called for each new subscription."""

    def __init__(
        self, proc: str, connect: Callable[[], Awaitable[Any]], on_subscribed: Callable[[], None]
    ) -> None:
        self.channel = f"g:i:{proc}"
        self.handlers: dict[str, list[Callable[[str], None]]] = {}
        self._connect = connect
        self._on_subscribed = on_subscribed
        self._renew = asyncio.Event()
        self._echoed = True

    def __repr__(self) -> str:
        return f"<Inbox {self.channel}>"

    def renew(self) -> None:
        """Throw the subscription away, and make another."""
        self._renew.set()

    async def run(self, publisher: Publisher) -> None:
        """Read for ever; an owned loop."""
        while True:
            self._renew.clear()
            begun = asyncio.get_running_loop().time()
            try:
                await self._life(publisher)
                if not self._renew.is_set() and asyncio.get_running_loop().time() - begun < _RETRY_S:
                    await asyncio.sleep(_RETRY_S)  # accepted, and cut at once
            except Exception as error:
                # Whatever talks there may not be Redis, and then redis-py fails in any way.
                log.debug("no inbox", extra={"reason": type(error).__name__})
                await asyncio.sleep(_RETRY_S)

    async def _life(self, publisher: Publisher) -> None:
        """Of one subscription, until it breaks, falls silent or is renewed."""
        client = pubsub = None
        try:
            async with asyncio.timeout(_SUBSCRIBE_S):
                client = await self._connect()
                pubsub = client.pubsub()
                await pubsub.subscribe(self.channel)
                reply = await pubsub.get_message(timeout=None)
            if reply is None or reply["type"] != "subscribe":
                raise ValueError("not a subscription")
            self._renew.clear()  # what was asked for has just been made
            self._on_subscribed()
            async with asyncio.TaskGroup() as group:
                reader = group.create_task(self._read(pubsub))
                await self._until_renewed(publisher, reader)
                reader.cancel()
        except BaseExceptionGroup as group_error:
            log.info("the inbox broke", extra={"reason": type(group_error.exceptions[0]).__name__})
        finally:
            await _discard(pubsub, client)

    async def _read(self, pubsub: Any) -> None:
        while True:
            message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=None)
            if message is not None:
                self._deliver(message["data"])

    def _deliver(self, data: Any) -> None:
        kind, _, rest = (
            data.decode("utf-8", "replace").partition("|") if isinstance(data, bytes) else ("", "", "")
        )
        if kind == _ECHO:
            self._echoed = True
        for handler in self.handlers.get(kind, ()):
            try:
                handler(rest)
            except Exception:
                log.exception("a message could not be handled", extra={"kind": kind})

    async def _until_renewed(self, publisher: Publisher, reader: asyncio.Task[None]) -> None:
        self._echoed = True
        while not reader.done():
            if publisher.up:
                if not self._echoed:
                    log.warning("the inbox has fallen silent")
                    return
                self._echoed = False
                with suppress(StoreError):
                    await publisher.do("PUBLISH", self.channel, _ECHO)
            try:
                async with asyncio.timeout(ECHO_S):
                    await self._renew.wait()
                return
            except TimeoutError:
                continue


async def _discard(pubsub: Any, client: Any) -> None:
    try:
        async with asyncio.timeout(0.5):
            if pubsub is not None:
                await pubsub.aclose()
            if client is not None:
                await close(client)
    except (RedisError, OSError, RuntimeError, TimeoutError):
        return
