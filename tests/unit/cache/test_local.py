"""The in-process layer: bounded in bytes and in age."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cache.local import LocalLayer
from tests.fakes.answers import answer, key


class Clock:
    """Both of the layer's clocks, moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def layer(max_bytes: int, clock: Clock) -> LocalLayer:
    return LocalLayer(max_bytes, clock=clock)


def test_entry_is_served_for_five_seconds_and_no_longer(clock: Clock) -> None:
    """The age bounds how long a purge in Redis goes unnoticed."""
    local = layer(1 << 20, clock)
    local.put(answer(1))

    clock.now += 4.9
    assert local.get(key(1)) is not None
    clock.now += 0.1
    assert local.get(key(1)) is None
    assert local.stats().entries == 0


def test_entry_does_not_outlive_its_own_ttl(clock: Clock) -> None:
    """A TTL below five seconds holds here too."""
    local = LocalLayer(1 << 20, clock=clock, wall=lambda: 1000.0)
    local.put(replace(answer(1), stored_at=999.0, ttl_s=3.0))

    clock.now += 1.9
    assert local.get(key(1)) is not None
    clock.now += 0.2
    assert local.get(key(1)) is None


def test_answer_whose_ttl_is_over_is_not_kept(clock: Clock) -> None:
    """Nothing is served for even a moment after its time."""
    local = layer(1 << 20, clock)
    local.put(answer(1, ttl_s=0.0))

    assert local.get(key(1)) is None


def test_least_recently_used_goes_first(clock: Clock) -> None:
    """A read keeps an entry; the bound in bytes holds after every put."""
    one = _cost(clock)
    local = layer(3 * one, clock)
    for number in (1, 2, 3):
        local.put(answer(number))
    local.get(key(1))
    local.put(answer(4))

    assert [number for number in (1, 2, 3, 4) if local.get(key(number))] == [1, 3, 4]
    assert local.stats().held_bytes == 3 * one


def test_replacing_an_answer_frees_what_it_held(clock: Clock) -> None:
    """The same key twice counts once, and the newer answer is served."""
    local = layer(1 << 20, clock)
    local.put(answer(1, text=b"a" * 5000))
    local.put(answer(1, text=b"b"))

    kept = local.get(key(1))
    assert kept is not None
    assert kept.completion == b'{"content":"b"}'
    assert local.stats().held_bytes == _cost(clock) - 3 * 2 * len(b"hell")


def test_too_large_an_answer_is_not_kept_and_evicts_nothing_else(clock: Clock) -> None:
    """One huge answer must not empty the layer; the older one under its key is void all the same."""
    local = layer(2 * _cost(clock), clock)
    local.put(answer(1))
    local.put(answer(2))
    local.put(answer(2, text=b"x" * 10_000))

    assert local.get(key(1)) is not None
    assert local.get(key(2)) is None


def test_zero_bytes_turn_the_layer_off(clock: Clock) -> None:
    """Nothing is kept at all."""
    local = layer(0, clock)
    local.put(answer(1))

    assert local.get(key(1)) is None


def test_clear_forgets_everything(clock: Clock) -> None:
    """Entries and their bytes are gone."""
    local = layer(1 << 20, clock)
    local.put(answer(1))
    local.clear()

    assert local.get(key(1)) is None
    assert local.stats().held_bytes == 0


def _cost(clock: Clock) -> int:
    local = layer(1 << 20, clock)
    local.put(answer(9))
    return local.stats().held_bytes
