"""Where Redis is: every kind of address, with every setting pinned, and no password where it can be read."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster

from cache.targets import RedisTarget, client_of, inbox_of

pytestmark = pytest.mark.anyio


def settings_of(client: Any) -> dict[str, Any]:
    kwargs: dict[str, Any] = client.connection_pool.connection_kwargs
    return kwargs


async def test_one_server_by_address_and_by_socket(tmp_path: Path) -> None:
    """Login and database from the address; a socket's path may hold anything."""
    there = client_of(RedisTarget("rediss://me:p%40ss@redis.example:7000/3"))
    kwargs = settings_of(there)
    assert (kwargs["host"], kwargs["port"], kwargs["db"]) == ("redis.example", 7000, 3)
    assert (kwargs["username"], kwargs["password"]) == ("me", "p@ss")
    odd = tmp_path / "a b#c"
    assert settings_of(client_of(RedisTarget.unix(odd)))["path"] == str(odd)


@pytest.mark.parametrize("url", ["redis://h", "unix:///tmp/s", "redis+sentinel://h/main"])
async def test_every_setting_is_pinned(url: str) -> None:
    """With redis-py's own socket timeout a Task.cancel is lost on 3.11; its retries repeat what we repeat."""
    kwargs = settings_of(client_of(RedisTarget(url)))
    assert kwargs["socket_timeout"] is None
    assert kwargs["retry"].get_retries() == 0
    assert kwargs["health_check_interval"] == 0
    assert kwargs["decode_responses"] is False
    assert kwargs["protocol"] == 2


async def test_a_service_behind_sentinels() -> None:
    """Several of them, on their usual port, each login for whom it is meant."""
    url = "redis+sentinel://me:secret@one,two:9/main/2?sentinel_password=other"
    client = client_of(RedisTarget(url, 3))
    pool = client.connection_pool
    addresses = [
        (settings_of(one)["host"], settings_of(one)["port"]) for one in pool.sentinel_manager.sentinels
    ]
    assert addresses == [("one", 26379), ("two", 9)]
    assert pool.service_name == "main"
    assert settings_of(client)["db"] == 2
    assert settings_of(client)["password"] == "secret"
    assert {settings_of(one)["password"] for one in pool.sentinel_manager.sentinels} == {"other"}


async def test_a_cluster_by_some_of_its_nodes() -> None:
    """IPv6 too; the usual port where none is given."""
    client = client_of(RedisTarget("rediss+cluster://one,[::1]:7001"))
    assert isinstance(client, RedisCluster)
    assert sorted(node.port for node in client.nodes_manager.startup_nodes.values()) == [6379, 7001]
    assert client.connection_kwargs["socket_timeout"] is None
    assert RedisTarget("redis+cluster://h").clustered
    assert not RedisTarget("redis+sentinel://h/main").clustered


@pytest.mark.parametrize(
    "url", ["redis+sentinel://h", "redis+cluster://", "redis+sentinel://a,:7/main", "http://h"]
)
async def test_an_address_that_makes_no_sense_is_refused(url: str) -> None:
    """At once, with a ValueError, and not with the first request."""
    with pytest.raises(ValueError):  # noqa: PT011 - each has its own words
        client_of(RedisTarget(url))


async def test_a_subscription_never_shares_the_pool_of_calls() -> None:
    """A subscriber holds its connection for ever: it must take none from the calls."""
    target = RedisTarget("redis://h")
    client = client_of(target)
    inbox = await inbox_of(target, client)
    assert isinstance(inbox, Redis)
    assert inbox.connection_pool is not client.connection_pool
    with contextlib.suppress(OSError):
        await inbox.aclose()


def test_a_password_is_not_shown() -> None:
    """A target is logged and shown in errors."""
    assert "secret" not in repr(RedisTarget("redis://:secret@h"))
