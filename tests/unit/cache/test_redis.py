"""The connection's settings and how failures are told apart; what a real server does is in integration."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,
    InvalidResponse,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
)

from cache.errors import StoreDown, StoreError, StoreRefused
from cache.redis import RedisConnection
from cache.targets import RedisTarget, client_of

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OutOfMemoryError(), StoreRefused),
        (ReadOnlyError(), StoreRefused),
        (BusyLoadingError(), StoreRefused),
        (MasterDownError("MASTERDOWN"), StoreRefused),
        (AuthenticationError(), StoreRefused),
        (ConnectionError(), StoreDown),
        (InvalidResponse(), StoreDown),
        (TimeoutError(), StoreDown),
        (OSError(), StoreDown),
        (RuntimeError(), StoreDown),
    ],
)
async def test_errors_are_refusals_or_trouble(
    error: Exception, kind: type[StoreError], tmp_path: Path
) -> None:
    """redis-py files LOADING and NOAUTH under connection errors; the server that sends them is alive."""
    failed: list[str] = []
    connection = RedisConnection(RedisTarget.unix(tmp_path / "nobody"), failed.append)

    def read(reply: object) -> None:
        raise error

    async def reply(*command: object) -> None:
        return None

    connection._client.execute_command = reply
    with pytest.raises(kind) as caught:
        await connection.call("get", 1.0, ["GET", "k"], read)

    assert failed == ["get"]
    assert str(caught.value) == f"get: {type(error).__name__}"
    await connection.close()


async def test_settings_in_the_url_do_not_loosen_ours() -> None:
    """A socket timeout from the URL would bring back the lost cancellations of Python 3.11."""
    target = RedisTarget(
        "redis://localhost:1/3?socket_timeout=5&retry_on_timeout=yes&protocol=3", connections=5
    )
    options = client_of(target).connection_pool.connection_kwargs

    assert (options["socket_timeout"], options["socket_connect_timeout"]) == (None, None)
    assert (options["protocol"], options["retry_on_timeout"], options["db"]) == (2, False, 3)


async def test_password_is_in_no_repr_and_no_error() -> None:
    """Neither the target nor a failed call shows what the URL holds."""
    target = RedisTarget("redis://:hunter2@localhost:1/0")
    connection = RedisConnection(target)
    with pytest.raises(StoreDown) as caught:
        await connection.call("get", 1.0, ["GET", "k"], lambda reply: None)

    assert "hunter2" not in repr(target) + repr(connection) + str(caught.value)
    await connection.close()


def test_url_that_is_none_is_refused() -> None:
    """At start, and not at the first request."""
    with pytest.raises(ValueError, match="scheme"):
        RedisConnection(RedisTarget("http://localhost"))


def test_socket_path_may_hold_any_character() -> None:
    """A path is not a URL: spaces and question marks survive."""
    path = Path("/tmp/a b?c#d/redis.sock")

    assert client_of(RedisTarget.unix(path)).connection_pool.connection_kwargs["path"] == str(path)
