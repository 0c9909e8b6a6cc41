"""Where sealed answers are kept across processes: the port, and Redis behind it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

from redis.exceptions import ResponseError

from cache.errors import StoreRefused
from cache.redis import BadReply, Command, RedisConnection

MAX_BATCH = 64
PARTITIONS = 64
SCOPE_CHARS = 16

# Shorter than a look-up's 100 ms: the breaker must be open before the first caller is told of its miss
# and asks again.
GET_TIMEOUT_S = 0.09
PUT_TIMEOUT_S = 1.0
PURGE_STEP_TIMEOUT_S = 5.0
PURGE_BATCH = 500
_PROBE_KEY = "g:{b00}:probe"


class Entry(NamedTuple):
    """What one write wants kept, and for how long."""

    key: str
    data: bytes
    ttl_s: float


class AnswerStore(Protocol):
    """Bytes under sharing keys. Every method raises StoreDown or StoreRefused, and nothing else."""

    max_entry_bytes: int

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """The value of each key, in order, None where there is none. At most `MAX_BATCH` keys."""

    async def put(self, key: str, data: bytes, ttl_s: float) -> bool:
        """Keep `data` for `ttl_s` seconds; False if it is too large or the TTL is nothing."""

    async def put_many(self, entries: Sequence[Entry]) -> list[bool]:
        """As `put` for each, in order. StoreRefused only if none was taken. At most `MAX_BATCH` entries."""

    async def purge(self, scope: str | None) -> int:
        """Forget the answers of one scope (16 hex digits), or all; how many there were."""

    async def ping(self) -> None:
        """Return if a look-up would be answered now."""


def partition(key: str) -> int:
    """Which of the 64 partitions a sharing key belongs to: its last byte decides."""
    return int(key[-2:], 16) % PARTITIONS


def redis_key(key: str) -> str:
    """The name in Redis. The braces are a cluster's hash tag: a partition's keys share one slot."""
    return f"g:{{b{partition(key):02d}}}:c:{key}"


def scope_pattern(scope: str | None) -> str:
    """A SCAN pattern for one scope's answers, or for all. ValueError if the scope is not one."""
    if scope is None:
        return "g:{b*}:c:*"
    # Anything else could hold a wildcard, and purge somebody else's answers.
    if not re.fullmatch(rf"[0-9a-f]{{{SCOPE_CHARS}}}", scope):
        raise ValueError("a scope is 16 lower-case hex digits")
    return f"g:{{b*}}:c:{scope}*"


class RedisAnswerStore:
    """Answers as plain strings with a TTL. Expiry is the server's, so hosts' clocks do not matter."""

    def __init__(self, connection: RedisConnection, max_entry_bytes: int) -> None:
        self.max_entry_bytes = max_entry_bytes
        self._connection = connection

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """One MGET, one round trip, at most 90 ms."""
        if len(keys) > MAX_BATCH:
            raise ValueError(f"at most {MAX_BATCH} keys at once")
        if not keys:
            return []
        command = ["MGET", *map(redis_key, keys)]
        read = partial(_values, expected=len(keys))
        values = await self._connection.call("get", GET_TIMEOUT_S, command, read)
        return [self._unless_too_large(value) for value in values]

    async def put(self, key: str, data: bytes, ttl_s: float) -> bool:
        """One SET with its expiry, at most 1 s."""
        (taken,) = await self.put_many([Entry(key, data, ttl_s)])
        return taken

    async def put_many(self, entries: Sequence[Entry]) -> list[bool]:
        """A SET for each in one round trip (on a cluster one to each node), at most 1 s in all."""
        if len(entries) > MAX_BATCH:
            raise ValueError(f"at most {MAX_BATCH} entries at once")
        sets = [self._set(entry) for entry in entries]
        commands = [command for command in sets if command is not None]
        taken = iter(await self._set_all(commands) if commands else [])
        return [command is not None and next(taken) for command in sets]

    def _set(self, entry: Entry) -> Command | None:
        ttl_ms = int(entry.ttl_s * 1000)
        if ttl_ms < 1 or len(entry.data) > self.max_entry_bytes:
            return None
        return ("SET", redis_key(entry.key), entry.data, "PX", ttl_ms)

    async def _set_all(self, commands: Sequence[Command]) -> list[bool]:
        taken: list[bool] = []

        async def act(client: Any) -> None:
            pipeline = client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            replies = await pipeline.execute(raise_on_error=False)
            refusals = [reply for reply in replies if isinstance(reply, Exception)]
            taken.extend(_all_done(replies))
            if refusals:
                raise refusals[0]  # counted, once for the round trip

        try:
            await self._connection.use("set", PUT_TIMEOUT_S, act)
        except StoreRefused:
            if not any(taken):
                raise
        return taken

    async def purge(self, scope: str | None) -> int:
        """SCAN and UNLINK in steps that never stall the server; what is stored meanwhile may stay."""
        pattern, cursor, removed = scope_pattern(scope), 0, 0
        while True:
            scan = ("SCAN", cursor, "MATCH", pattern, "COUNT", PURGE_BATCH)
            cursor, names = await self._connection.call("purge", PURGE_STEP_TIMEOUT_S, scan, _page)
            if names:
                unlink: Command = ("UNLINK", *names)
                removed += await self._connection.call("purge", PURGE_STEP_TIMEOUT_S, unlink, _count)
            if cursor == 0:
                return removed

    async def ping(self) -> None:
        """Look up a key that nobody writes: PING can succeed where no look-up does."""
        await self._connection.call("ping", GET_TIMEOUT_S, ("MGET", _PROBE_KEY), _nothing)

    def _unless_too_large(self, value: bytes | None) -> bytes | None:
        return value if value is None or len(value) <= self.max_entry_bytes else None


# What each command's reply must be; anything else did not come from Redis, or not for this call.
def _values(reply: Any, expected: int) -> list[bytes | None]:
    if not isinstance(reply, list) or len(reply) != expected:
        raise BadReply
    if not all(value is None or isinstance(value, bytes) for value in reply):
        raise BadReply
    return reply


def _all_done(replies: list[Any]) -> list[bool]:
    for reply in replies:
        if isinstance(reply, Exception) and not isinstance(reply, ResponseError):
            raise reply  # a cluster's node that is gone, among replies of the others
        if reply is not True and not isinstance(reply, ResponseError):
            raise BadReply
    return [reply is True for reply in replies]


def _nothing(reply: Any) -> None:
    if reply != [None]:
        raise BadReply


def _count(reply: Any) -> int:
    if not isinstance(reply, int):
        raise BadReply
    return reply


def _page(reply: Any) -> tuple[int, list[bytes]]:
    match reply:
        case [int(cursor), [*names]] if all(isinstance(name, bytes) for name in names):
            return cursor, names
    raise BadReply
