"""The names in Redis: what a script touches shares a slot, and nothing private is in a name."""

from __future__ import annotations

import re

from redis.crc import key_slot

from cache.names import DEAD, PROCESSES, fences, flight_keys, log_key, once_key, request_key
from cache.store import PARTITIONS, redis_key

KEY = "ab" * 31 + "41"
ID = "chat_" + "0" * 32 + "41"


def test_all_that_a_script_touches_is_in_one_slot() -> None:
    """Else a cluster refuses the script: the flight, its record and its log, and the two of the processes."""
    names = [*flight_keys(KEY), request_key(ID), log_key(KEY, 7)]
    assert len({key_slot(name.encode()) for name in names}) == 1
    assert key_slot(PROCESSES.encode()) == key_slot(DEAD.encode())


def test_the_order_is_that_of_the_scripts() -> None:
    """KEYS are m, s, u, f, c; the cached answer is where the fast lane looks for it."""
    assert [re.sub(r"\{.*?\}", "", name).split(":")[2] for name in flight_keys(KEY)] == list("msufc")
    assert flight_keys(KEY)[4] == redis_key(KEY)


def test_every_partition_has_one_fence() -> None:
    """And every key finds its own among them."""
    assert len(set(fences())) == PARTITIONS
    assert flight_keys(KEY)[3] in fences()


def test_a_request_id_cannot_be_read_from_its_name() -> None:
    """Neither tenant nor id, whatever is in them; and no two pairs meet."""
    name = once_key("tenant", "order-17")
    assert "tenant" not in name
    assert "order-17" not in name
    assert once_key("tenant", "order-17") == name
    pairs = [
        ("tenant", "order-18"),
        ("tenant2", "order-17"),
        ("a", "b"),
        ("ab", ""),
        ("", "ab"),
        ("\udcff", "é"),
    ]
    assert len({once_key(*pair) for pair in pairs} | {name}) == 7


def test_an_ended_log_is_of_one_epoch() -> None:
    """After a takeover the same key has another log."""
    assert log_key(KEY, 1) != log_key(KEY, 2)
