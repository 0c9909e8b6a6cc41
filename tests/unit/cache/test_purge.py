"""Purging a server that is not there; the rest is in tests/integration/test_embedded_redis.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from cache.errors import StoreDown
from cache.purge import purge
from cache.targets import RedisTarget

pytestmark = pytest.mark.anyio


async def test_purge_of_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    """The command must not say that it removed nothing when it reached nobody."""
    with pytest.raises(StoreDown, match="purge"):
        await purge(RedisTarget.unix(tmp_path / "nobody"))


async def test_purge_of_what_is_no_scope_reaches_nobody(tmp_path: Path) -> None:
    """The scope is judged first."""
    with pytest.raises(ValueError, match="scope"):
        await purge(RedisTarget.unix(tmp_path / "nobody"), "*")
