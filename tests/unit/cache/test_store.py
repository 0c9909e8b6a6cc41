"""Names in Redis; what the store does is in tests/contract/test_answer_store.py."""

from __future__ import annotations

import pytest

from cache.store import PARTITIONS, partition, redis_key, scope_pattern
from tests.fakes.answers import SCOPE, key


def test_name_shows_partition_and_key() -> None:
    """The name is a contract: other processes, and the broadcasts' scripts, look there."""
    assert redis_key(key(0x41)) == "g:{b01}:c:" + key(0x41)


def test_last_byte_spreads_keys_over_every_partition() -> None:
    """No partition stays empty, and none gets twice its share."""
    taken = [partition(key(number)) for number in range(256)]

    assert {taken.count(number) for number in range(PARTITIONS)} == {4}


@pytest.mark.parametrize("scope", ["", "*", "5c0be5c0be5c0be", SCOPE.upper(), SCOPE + "*", "[a-f]" * 4])
def test_scope_with_anything_but_digits_is_refused(scope: str) -> None:
    """A wildcard would purge other tenants' answers."""
    with pytest.raises(ValueError, match="scope"):
        scope_pattern(scope)
