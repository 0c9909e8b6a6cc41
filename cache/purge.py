"""Emptying the cache from outside: what `refrain cache purge` runs.

Running processes notice within 5 s: so long their own layers may still serve what they hold.
"""

from __future__ import annotations

from cache.clustered import answer_store
from cache.redis import RedisConnection
from cache.targets import RedisTarget


async def purge(target: RedisTarget, scope: str | None = None) -> int:
    """Forget the answers of one scope (the first 16 hex digits of its keys), or all; how many there were.

    StoreDown or StoreRefused if the server does not go along; ValueError for what is not a scope. An
    embedded server is found with `folders.running_sockets`.
    """
    connection = RedisConnection(target)
    try:
        return await answer_store(connection, max_entry_bytes=0).purge(scope)
    finally:
        await connection.close()
