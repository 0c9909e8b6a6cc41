"""The connection to Redis: every setting pinned, every call bounded, every failure one of two kinds.

Only tasks owned by the process call through here (the lane's workers, its writer, the probe). A
request's handler waits for a future of its own instead: its cancellation reaches no connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from redis.exceptions import AuthenticationError, AuthorizationError, BusyLoadingError, ResponseError

from cache.errors import StoreDown, StoreError, StoreRefused
from cache.patience import patience
from cache.targets import RedisTarget, client_of, close

T = TypeVar("T")
Command = Sequence[str | bytes | int]

# redis-py files the first three under connection errors; the server that sends them is alive.
_REFUSALS = (AuthenticationError, AuthorizationError, BusyLoadingError, ResponseError)
_CLOSE_TIMEOUT_S = 1.0


class BadReply(Exception):
    """A reply of the wrong type or shape: whatever talks there, it is not Redis answering this call."""


class RedisConnection:
    """A pool of connections. `on_error(op)` is told of every call that failed.

    ValueError if the URL makes no sense. What the URL's query says about timeouts and retries is
    overridden.
    """

    def __init__(self, target: RedisTarget, on_error: Callable[[str], None] = lambda op: None) -> None:
        self.clustered = target.clustered
        self._client = client_of(target)
        self._on_error = on_error

    async def call(self, op: str, timeout_s: float, command: Command, read: Callable[[Any], T]) -> T:
        """Run one command within `timeout_s`, waiting for a connection included.

        `read` turns the reply into the result, and raises BadReply if it is not what the command gives.
        StoreDown or StoreRefused if the call fails; nothing else but cancellation comes out.
        """

        async def act(client: Any) -> T:
            return read(await client.execute_command(*command))

        return await self.use(op, timeout_s, act)

    async def use(self, op: str, timeout_s: float, act: Callable[[Any], Awaitable[T]]) -> T:
        """As `call`, for what takes more than one command."""
        try:
            async with patience(timeout_s):
                return await act(self._client)
        except Exception as error:
            self._on_error(op)
            if isinstance(error, BadReply):
                # The replies on that connection may belong to other calls by now.
                await self._drop_idle()
            raise _classified(op, error) from error

    async def close(self) -> None:
        """Close every connection."""
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await close(self._client)
        except (TimeoutError, OSError):
            return

    async def _drop_idle(self) -> None:
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                if not self.clustered:
                    await self._client.connection_pool.disconnect(inuse_connections=False)
        except (TimeoutError, OSError):
            return


def _classified(op: str, error: Exception) -> StoreError:
    # The type alone: a message of redis-py can carry the address, and with it a password.
    kind = StoreRefused if isinstance(error, _REFUSALS) else StoreDown
    return kind(f"{op}: {type(error).__name__}")
