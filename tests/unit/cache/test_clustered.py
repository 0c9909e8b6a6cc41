"""Sealed answers in a cluster: look-ups by partition, one failure told once, a purge of every primary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from cache.clustered import ClusteredAnswerStore, answer_store
from cache.errors import StoreDown
from cache.store import RedisAnswerStore, redis_key
from tests.fakes.shared_redis import key_of
from tests.virtual_time import virtual


@dataclass
class Node:
    """A primary: pages of names that a SCAN gives, one after the other."""

    name: str
    pages: list[list[str]]


@dataclass
class FakeCluster:
    """The connection and its client in one. `down`: partitions' tags that do not answer."""

    clustered: bool = True
    values: dict[str, bytes] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    down: tuple[str, ...] = ()
    asked: list[Sequence[Any]] = field(default_factory=list)
    unlinked: list[str] = field(default_factory=list)

    async def call(self, op: str, timeout_s: float, command: Sequence[Any], read: Any) -> Any:
        self.asked.append(command)
        if any(tag in str(command[1]) for tag in self.down):
            raise StoreDown(op)
        return read([self.values.get(str(name)) for name in command[1:]])

    async def use(self, op: str, timeout_s: float, act: Any) -> Any:
        return await act(self)

    async def initialize(self) -> None:
        """It knows its nodes."""

    def get_primaries(self) -> list[Node]:
        return self.nodes

    async def scan(self, cursor: int, *, match: str, count: int, target_nodes: Node) -> Any:
        assert match.startswith("g:{b*}:c:")
        last = cursor + 1 == len(target_nodes.pages)
        return {target_nodes.name: 0 if last else cursor + 1}, target_nodes.pages[cursor]

    async def unlink(self, name: str) -> int:
        self.unlinked.append(name)
        return 1


def store_on(cluster: FakeCluster) -> Any:
    return answer_store(cluster, 1000)  # type: ignore[arg-type]


def test_the_store_is_the_one_for_its_connection() -> None:
    """One server is not asked by partitions."""
    assert isinstance(store_on(FakeCluster()), ClusteredAnswerStore)
    alone = store_on(FakeCluster(clustered=False))
    assert isinstance(alone, RedisAnswerStore)
    assert not isinstance(alone, ClusteredAnswerStore)


@virtual
async def test_a_look_up_asks_each_partition_once_and_keeps_the_order() -> None:
    """MGET over two slots would be refused; what is asked twice is answered twice."""
    keys = [key_of(1), key_of(2), key_of(65), key_of(3), key_of(1)]
    cluster = FakeCluster(values={redis_key(key): key[-2:].encode() for key in keys[:3]})
    assert await store_on(cluster).get_many(keys) == [b"01", b"02", b"41", None, b"01"]
    assert sorted(len(command) - 1 for command in cluster.asked) == [1, 1, 3]
    assert await store_on(cluster).get_many([]) == []


@virtual
async def test_a_partition_that_is_away_is_an_error_and_no_group() -> None:
    """The fast lane knows StoreError; an ExceptionGroup would end its worker."""
    cluster = FakeCluster(down=("{b02}", "{b03}"))
    with pytest.raises(StoreDown):
        await store_on(cluster).get_many([key_of(1), key_of(2), key_of(3)])


@virtual
async def test_a_purge_visits_every_page_of_every_primary() -> None:
    """And removes name by name, for a page holds keys of many slots."""
    cluster = FakeCluster(
        nodes=[Node("one", [["a"], [], ["b", "c"]]), Node("two", [["d"]]), Node("three", [[]])]
    )
    assert await store_on(cluster).purge(None) == 4
    assert cluster.unlinked == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="hex"):
        await store_on(cluster).purge("*")
