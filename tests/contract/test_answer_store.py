"""What every answer store does: the one in memory, which the unit tests use, and the one in Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from cache.store import MAX_BATCH, AnswerStore, Entry
from tests.fakes.answer_store import MemoryAnswerStore
from tests.fakes.answers import SCOPE, key
from tests.fakes.eventually import eventually
from tests.fakes.real_redis import real_redis, redis_store, supervised

pytestmark = pytest.mark.anyio

LIMIT = 10_000
OTHER = "07e207e207e207e2"


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[AnswerStore]:
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            yield MemoryAnswerStore(LIMIT)
            return
        supervisor = await stack.enter_async_context(supervised())
        server = await stack.enter_async_context(real_redis(supervisor))
        assert server.socket_path is not None
        yield await stack.enter_async_context(redis_store(server.socket_path, LIMIT))


async def test_values_come_back_in_the_order_of_the_keys(store: AnswerStore) -> None:
    """Byte for byte, with None where there is nothing."""
    value = bytes(range(256))
    assert await store.put(key(1), value, 60)
    assert await store.put(key(2), b"", 60)

    assert await store.get_many([key(2), key(3), key(1)]) == [b"", None, value]


async def test_no_keys_are_no_values(store: AnswerStore) -> None:
    """An empty question has an empty answer."""
    assert await store.get_many([]) == []


async def test_batch_is_bounded(store: AnswerStore) -> None:
    """64 keys at once, and not one more: a round trip must stay short."""
    assert await store.get_many([key(number) for number in range(MAX_BATCH)]) == [None] * MAX_BATCH
    with pytest.raises(ValueError, match="64"):
        await store.get_many([key(number) for number in range(MAX_BATCH + 1)])


async def test_many_are_put_as_each_would_be(store: AnswerStore) -> None:
    """In order, each with its own verdict; at most 64."""
    large = b"x" * (LIMIT + 1)
    entries = [
        Entry(key(1), b"1", 60),
        Entry(key(2), large, 60),
        Entry(key(3), b"3", 0),
        Entry(key(4), b"4", 60),
    ]
    assert await store.put_many(entries) == [True, False, False, True]
    assert await store.get_many([key(n) for n in range(1, 5)]) == [b"1", None, None, b"4"]
    with pytest.raises(ValueError, match="64"):
        await store.put_many([Entry(key(n), b"", 60) for n in range(MAX_BATCH + 1)])


async def test_later_value_replaces_the_earlier(store: AnswerStore) -> None:
    """The newest answer of a key is the one that is shared."""
    await store.put(key(1), b"old", 60)
    await store.put(key(1), b"new", 60)

    assert await store.get_many([key(1)]) == [b"new"]


async def test_value_is_gone_when_its_ttl_is_over(store: AnswerStore) -> None:
    """By itself, and only that one."""
    await store.put(key(1), b"short", 0.02)
    await store.put(key(2), b"long", 60)

    async def is_gone() -> bool:
        return await store.get_many([key(1), key(2)]) == [None, b"long"]

    await eventually(is_gone)


@pytest.mark.parametrize("ttl_s", [0.0, 0.0009, -5.0])
async def test_ttl_of_nothing_stores_nothing(store: AnswerStore, ttl_s: float) -> None:
    """A TTL of 0 is a cache that is off, not an entry without a TTL."""
    assert not await store.put(key(1), b"value", ttl_s)
    assert await store.get_many([key(1)]) == [None]


async def test_too_large_a_value_is_not_stored(store: AnswerStore) -> None:
    """The limit itself fits."""
    assert await store.put(key(1), b"x" * LIMIT, 60)
    assert not await store.put(key(2), b"x" * (LIMIT + 1), 60)
    assert await store.get_many([key(1), key(2)]) == [b"x" * LIMIT, None]


async def test_too_large_a_value_that_is_there_is_a_miss(store: AnswerStore) -> None:
    """Another instance with a higher limit may have stored it."""
    await store.put(key(1), b"x" * 100, 60)
    store.max_entry_bytes = 99

    assert await store.get_many([key(1)]) == [None]


async def test_purge_of_a_scope_spares_the_others(store: AnswerStore) -> None:
    """It says how many there were, and finds them in every partition."""
    for number in range(200):
        await store.put(key(number), b"mine", 60)
    await store.put(key(1, OTHER), b"theirs", 60)

    assert await store.purge(SCOPE) == 200
    assert await store.get_many([key(1), key(199), key(1, OTHER)]) == [None, None, b"theirs"]
    assert await store.purge(SCOPE) == 0


async def test_purge_of_everything_leaves_nothing(store: AnswerStore) -> None:
    """Every scope is emptied."""
    await store.put(key(1), b"mine", 60)
    await store.put(key(1, OTHER), b"theirs", 60)

    assert await store.purge(None) == 2
    assert await store.get_many([key(1), key(1, OTHER)]) == [None, None]


async def test_purge_of_what_is_no_scope_is_refused(store: AnswerStore) -> None:
    """A wildcard is not a scope."""
    with pytest.raises(ValueError, match="scope"):
        await store.purge("*")


async def test_ping_returns_when_look_ups_are_answered(store: AnswerStore) -> None:
    """No value, no error."""
    await store.ping()
