"""Whether this user of Redis may run every command that the gateway uses, found out by running each.

The list is the one of docs/operations.md; a test holds the two together. Asking `ACL` itself would need
a right that the gateway's user should not have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from app.doctor.finding import Finding, failed, ok

Words = tuple[str | int, ...]

#: Runs on a key that holds a text: those of another type are refused for that, after their permission.
#: K stands for the key. SELECT names a database that no server has, so that it changes nothing.
COMMANDS: Final[Mapping[str, Words]] = {
    "set": ("SET", "K", 1, "PX", 10_000),
    "get": ("GET", "K"),
    "mget": ("MGET", "K"),
    "exists": ("EXISTS", "K"),
    "pexpire": ("PEXPIRE", "K", 10_000),
    "eval": ("EVAL", "return 1", 1, "K"),
    "evalsha": ("EVALSHA", "0" * 40, 1, "K"),
    "scan": ("SCAN", 0, "MATCH", "K", "COUNT", 1),
    "hdel": ("HDEL", "K", "f"),
    "hget": ("HGET", "K", "f"),
    "hgetall": ("HGETALL", "K"),
    "hmget": ("HMGET", "K", "f"),
    "hset": ("HSET", "K", "f", 1),
    "hkeys": ("HKEYS", "K"),
    "hincrby": ("HINCRBY", "K", "f", 1),
    "llen": ("LLEN", "K"),
    "lpop": ("LPOP", "K"),
    "lrange": ("LRANGE", "K", 0, 0),
    "rpush": ("RPUSH", "K", 1),
    "pttl": ("PTTL", "K"),
    "time": ("TIME",),
    "xadd": ("XADD", "K", "*", "f", 1),
    "xrange": ("XRANGE", "K", "-", "+"),
    "zadd": ("ZADD", "K", 1, "m"),
    "zcard": ("ZCARD", "K"),
    "zpopmin": ("ZPOPMIN", "K"),
    "zrange": ("ZRANGE", "K", 0, 0),
    "zrangebyscore": ("ZRANGEBYSCORE", "K", 0, 0),
    "zrank": ("ZRANK", "K", "m"),
    "zrem": ("ZREM", "K", "m"),
    "zremrangebyscore": ("ZREMRANGEBYSCORE", "K", 0, 0),
    "zscore": ("ZSCORE", "K", "m"),
    "publish": ("PUBLISH", "C", "."),
    "ping": ("PING",),
    "select": ("SELECT", 2**31 - 1),
    "unlink": ("UNLINK", "K"),
    "del": ("DEL", "K"),
}
#: A server that says so is not the one to ask.
_POINTLESS: Final = frozenset({"MovedError", "AskError", "ClusterDownError", "MasterDownError"})
#: Proved by the message that makes its way through a channel.
BY_CHANNEL: Final = ("subscribe", "unsubscribe")
#: What a client of a cluster asks besides.
CLUSTER_COMMANDS: Final[Mapping[str, Words]] = {
    "cluster|slots": ("CLUSTER SLOTS",),
    "cluster|shards": ("CLUSTER SHARDS",),
    "cluster|nodes": ("CLUSTER NODES",),
    "cluster|info": ("CLUSTER INFO",),
    "command": ("COMMAND",),
    "readonly": ("READONLY",),
}


class Rights:
    """What came of running them: those that the user may not run, and those that the server does not know."""

    def __init__(self) -> None:
        self.refused: list[str] = []
        self.unknown: list[str] = []
        self.keys_refused = False
        self.read_only = False
        self.tried = 0

    async def try_all(self, client: Any, key: str, channel: str, *, clustered: bool) -> Rights:
        """Runs each once; raises what breaks the connection, or makes the rest pointless."""
        places = {"K": key, "C": channel}
        for name, words in COMMANDS.items():
            if clustered and name == "select":
                continue  # a cluster has one database
            if not await self._try(client, name, tuple(places.get(str(word), word) for word in words), {}):
                break  # without a text at the key, the others would leave something there
        for name, words in CLUSTER_COMMANDS.items() if clustered else ():
            await self._try(client, name, words, {"target_nodes": client.get_random_node()})
        return self

    async def _try(self, client: Any, name: str, words: Words, options: dict[str, Any]) -> bool:
        """False if nothing after it can be tried."""
        self.tried += 1
        try:
            await client.execute_command(*words, **options)
        except Exception as error:
            kinds = kinds_of(error)
            if "ResponseError" not in kinds or kinds & _POINTLESS:
                raise
            self._note(name, kinds, str(error))
            return name != "set"
        return True

    def _note(self, name: str, kinds: set[str], message: str) -> None:
        if "ReadOnlyError" in kinds:
            self.read_only = True
        elif "NoPermissionError" in kinds and "key" in message and "command" not in message:
            self.keys_refused = True
        elif "NoPermissionError" in kinds:
            self.refused.append(name)
        elif message.lower().startswith("unknown command"):
            self.unknown.append(name)


def kinds_of(error: BaseException) -> set[str]:
    """The names of its classes: only `cache` knows Redis by its types."""
    return {kind.__name__ for kind in type(error).__mro__}


def judged(rights: Rights) -> Finding:
    check = "redis.commands"
    do = "docs/operations.md has the line for a user with exactly what is needed."
    if rights.keys_refused:
        return failed(check, "This user may not use keys that begin with g:, which all of ours do.", do)
    more = " (what comes after it was not tried)" if "set" in rights.refused + rights.unknown else ""
    if rights.refused:
        names = ", ".join(rights.refused)
        return failed(check, f"This user may not run: {names}{more}.", do)
    if rights.unknown:
        names = ", ".join(rights.unknown)
        return failed(
            check, f"The server does not know: {names}{more}.", "Use Redis 6.2 or later, or Valkey."
        )
    if rights.read_only:
        says = "It takes no writes, so what this user may do was not tried."
        return failed(check, says, "See redis.role.")
    return ok(check, f"This user may run all {rights.tried} commands that were tried.")
