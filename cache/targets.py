"""Where Redis is, and a client for it: one server, a master that sentinels name, or a cluster.

Every setting is pinned. With a socket timeout redis-py sends through asyncio.wait_for, which on 3.11 loses
a Task.cancel; so there is none, and whoever calls bounds the call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

_SENTINEL_PORT, _CLUSTER_PORT = 26379, 6379

_TIMELESS: Mapping[str, Any] = {
    "socket_timeout": None,
    "socket_connect_timeout": None,
    "health_check_interval": 0,
    "decode_responses": False,
    # RESP2 needs no handshake: a fresh connection's first round trip is the call itself.
    "protocol": 2,
    "driver_info": None,
    "socket_read_size": 256 * 1024,
}
_PINNED: Mapping[str, Any] = {
    **_TIMELESS,
    "retry": Retry(NoBackoff(), 0),
    "retry_on_error": [],
    "retry_on_timeout": False,
}
#: It is off by itself; where no URL is parsed that may say otherwise, naming it is deprecated.
_NAMED: Mapping[str, Any] = {name: value for name, value in _PINNED.items() if name != "retry_on_timeout"}


@dataclass(frozen=True, slots=True)
class RedisTarget:
    """Where Redis is, and how many connections may be open at once.

    redis://, rediss://, unix://; redis+sentinel://host:port,host:port/service[/db];
    redis+cluster://host:port,host:port and rediss+cluster:// for TLS.
    """

    url: str = field(repr=False)  # may hold a password
    connections: int = 8

    @classmethod
    def unix(cls, socket: Path, connections: int = 8) -> RedisTarget:
        """The server behind a unix socket."""
        return cls(f"unix://{quote(str(socket))}", connections)

    @property
    def clustered(self) -> bool:
        return self.url.partition(":")[0].endswith("+cluster")


def client_of(target: RedisTarget) -> Any:
    """A client with a pool of its own. ValueError if the URL makes no sense."""
    scheme = target.url.partition(":")[0]
    if scheme.endswith("+sentinel"):
        return _behind_sentinels(target)
    if scheme.endswith("+cluster"):
        return _cluster(target)
    options = {**parse_url(target.url), **_PINNED, "timeout": None, "max_connections": target.connections}
    # from_pool: closing the client closes its pool.
    return Redis.from_pool(BlockingConnectionPool(**options))


async def close(client: Any) -> None:
    """Close every connection of a client that is made here, those to its sentinels too."""
    await client.aclose()
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    for sentinel in manager.sentinels if manager is not None else ():
        await sentinel.aclose()


async def inbox_of(target: RedisTarget, client: Any) -> Any:
    """A client for subscriptions: of a cluster any node will do, for what is published goes to all."""
    if not target.clustered:
        return client_of(RedisTarget(target.url, 2))
    await client.initialize()
    node = client.get_random_node()
    parts = _Parts(target.url)
    return Redis(host=node.host, port=node.port, **parts.login, **parts.tls, **_NAMED)


class _Parts:
    """What several hosts need that urllib does not know."""

    def __init__(self, url: str) -> None:
        scheme, _, rest = url.partition("://")
        rest, _, query = rest.partition("?")
        authority, _, path = rest.partition("/")
        self.query = dict(parse_qsl(query))
        user, _, hosts = authority.rpartition("@")
        name, _, password = user.partition(":")
        self.login: dict[str, Any] = {
            key: unquote(value) for key, value in (("username", name), ("password", password)) if value
        }
        self.path = [part for part in path.split("/") if part]
        self.tls: dict[str, Any] = {}
        if scheme.startswith("rediss") or self.query.get("ssl", "") in ("1", "true"):
            self.tls["ssl"] = True
            self.tls |= {key: value for key, value in self.query.items() if key.startswith("ssl_")}
        self._hosts = hosts

    def addresses(self, port: int) -> list[tuple[str, int]]:
        found = []
        for address in self._hosts.split(","):
            parts = urlsplit(f"//{address}")
            if not parts.hostname:
                raise ValueError("an address of Redis without a host")
            found.append((parts.hostname, parts.port or port))
        return found


def _behind_sentinels(target: RedisTarget) -> Any:
    parts = _Parts(target.url)
    if not parts.path:
        raise ValueError("the address of sentinels ends with the name of their service")
    asked = {
        key: parts.query[f"sentinel_{key}"]
        for key in ("username", "password")
        if f"sentinel_{key}" in parts.query
    }
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        parts.addresses(_SENTINEL_PORT),
        sentinel_kwargs={**_NAMED, **parts.tls, **asked, "socket_connect_timeout": 0.5},
        **{**_NAMED, **parts.tls, **parts.login, "db": int(parts.path[1]) if len(parts.path) > 1 else 0},
    )
    most = 4 * target.connections
    return sentinel.master_for(parts.path[0], max_connections=most)


def _cluster(target: RedisTarget) -> Any:
    parts = _Parts(target.url)
    nodes = [ClusterNode(host, port) for host, port in parts.addresses(_CLUSTER_PORT)]
    return RedisCluster(
        startup_nodes=nodes,
        max_connections=4 * target.connections,
        require_full_coverage=False,
        retry=Retry(NoBackoff(), 2),
        **{**_TIMELESS, **parts.login, **parts.tls},
    )
