"""Sealed answers in a Redis cluster: what touches several partitions goes to each of their nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from cache.errors import StoreError
from cache.redis import RedisConnection
from cache.store import (
    PURGE_BATCH,
    PURGE_STEP_TIMEOUT_S,
    AnswerStore,
    RedisAnswerStore,
    partition,
    scope_pattern,
)


def answer_store(connection: RedisConnection, max_entry_bytes: int) -> AnswerStore:
    """The store for what `connection` leads to."""
    kind = ClusteredAnswerStore if connection.clustered else RedisAnswerStore
    return kind(connection, max_entry_bytes)


class ClusteredAnswerStore(RedisAnswerStore):
    """As on one server; a purge visits every primary."""

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """One MGET per partition, all at once."""
        groups: dict[int, list[str]] = {}
        for key in keys:
            groups.setdefault(partition(key), []).append(key)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._get_group(of_one)) for of_one in groups.values()]
        found: dict[str, bytes | None] = {}
        for task in tasks:
            values = task.result()
            if isinstance(values, StoreError):
                raise values
            found |= values
        return [found[key] for key in keys]

    async def _get_group(self, keys: list[str]) -> dict[str, bytes | None] | StoreError:
        try:
            return dict(zip(keys, await super().get_many(keys), strict=True))
        except StoreError as error:
            return error

    async def purge(self, scope: str | None) -> int:
        """SCAN on each primary, and UNLINK one by one, since a page holds keys of many slots."""
        pattern, removed = scope_pattern(scope), 0
        for node in await self._connection.use("purge", PURGE_STEP_TIMEOUT_S, _primaries):
            cursor = -1
            while cursor:
                scan = _Scan(node, max(cursor, 0), pattern)
                cursor, gone = await self._connection.use("purge", PURGE_STEP_TIMEOUT_S, scan.run)
                removed += gone
        return removed


class _Scan:
    """One page of one node: where the next begins, 0 for nowhere, and how many were forgotten."""

    def __init__(self, node: Any, cursor: int, pattern: str) -> None:
        self._node, self._cursor, self._pattern = node, cursor, pattern

    async def run(self, client: Any) -> tuple[int, int]:
        cursors, names = await client.scan(
            self._cursor, match=self._pattern, count=PURGE_BATCH, target_nodes=self._node
        )
        gone = 0
        for name in names:
            gone += await client.unlink(name)
        return cursors[self._node.name], gone


async def _primaries(client: Any) -> list[Any]:
    await client.initialize()
    return list(client.get_primaries())
