"""Scripts and commands over the connections to Redis: many in one pipeline, one by one to a cluster's nodes.

A script goes by its digest, and with its body where a server does not know it, which then does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import (
    AskError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from cache.scripts import Script

#: A server that says so cannot serve now; what it was asked has not happened.
_NOT_NOW = ("READONLY", "LOADING", "CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN", "UNBLOCKED", "MOVED", "ASK")
#: The same where redis-py has a class for it, and takes the word off the message.
_NOT_NOW_KINDS = (ReadOnlyError, MovedError, AskError, ClusterDownError, TryAgainError, MasterDownError)

Word = str | bytes | int


@dataclass(eq=False, slots=True)
class Call:
    """A command, and the future that its caller waits for."""

    op: str
    words: tuple[Word, ...]
    script: Script | None
    reply: asyncio.Future[Any]

    @property
    def size(self) -> int:
        """Bytes, about."""
        return sum(len(word) for word in self.words if not isinstance(word, int))

    def settle(self, reply: Any) -> None:
        """Answer it, unless its caller has left."""
        if self.reply.done():
            return
        if isinstance(reply, Exception):
            self.reply.set_exception(reply)
            self.reply.exception()  # seen, even if its caller has left
        else:
            self.reply.set_result(reply)


class Wire:
    def __init__(self, client: Any, *, clustered: bool) -> None:
        self._client = client
        self._clustered = clustered

    async def round_trip(self, calls: Sequence[Call]) -> list[Any]:
        """What the server says to each, an exception among them; raises what breaks a whole connection."""
        replies = await self._replies([call.words for call in calls])
        missing = [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if missing:
            bodies = [_with_body(calls[at]) for at in missing]
            for at, reply in zip(missing, await self._replies(bodies), strict=True):
                replies[at] = reply
        return replies

    async def _replies(self, commands: Sequence[tuple[Word, ...]]) -> list[Any]:
        if self._clustered:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._one(command)) for command in commands]
            return [task.result() for task in tasks]
        if len(commands) == 1:
            return [await self._one(commands[0])]
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        return replies

    async def _one(self, command: tuple[Word, ...]) -> Any:
        try:
            return await self._client.execute_command(*command)
        except ResponseError as error:
            return error
        except (RedisError, OSError) as error:
            if not self._clustered:
                raise
            return error  # one node's trouble is not the others'


def _with_body(call: Call) -> tuple[Word, ...]:
    assert call.script is not None
    return ("EVAL", call.script.body, *call.words[2:])


def not_now(error: ResponseError) -> bool:
    """The server cannot serve now; what it was asked has not happened."""
    return isinstance(error, _NOT_NOW_KINDS) or str(error).startswith(_NOT_NOW)
