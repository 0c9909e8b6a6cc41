"""Each kind of value takes what a person would write, and refuses what only looks like it."""

from __future__ import annotations

import pytest

from config import Settings, SettingsError, load


def value(name: str, text: str) -> object:
    return getattr(load({f"REFRAIN_{name.upper()}": text}), name)


def is_refused(name: str, text: str) -> bool:
    with pytest.raises(SettingsError, match=f"^REFRAIN_{name.upper()} must be "):
        load({f"REFRAIN_{name.upper()}": text})
    return True


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64MiB", 64 << 20),
        ("64 MiB", 64 << 20),
        ("1GiB", 1 << 30),
        ("20MB", 20_000_000),
        ("20mb", 20_000_000),
        ("3kB", 3000),
        ("3KiB", 3072),
        ("2TiB", 2 << 40),
        ("512", 512),
        ("512B", 512),
        ("0", 0),
        (" 7 ", 7),
    ],
)
def test_sizes_take_units(text: str, size: int) -> None:
    """Powers of 1000 and of 1024 are told apart, and the case of a unit does not matter."""
    assert value("local_cache_bytes", text) == size


@pytest.mark.parametrize("text", ["-1", "1.5MiB", "64M", "64XiB", "MiB", "1e6", "1_000", "٣", "9999999TiB"])
def test_sizes_refuse_what_is_ambiguous_or_absurd(text: str) -> None:
    """A bare M means 1000 to one and 1024 to another, so it means nothing here."""
    assert is_refused("local_cache_bytes", text)


@pytest.mark.parametrize("text", ["0", "-3", "1.0", "1_0", "٣", "1000001", "0x10", "9" * 5000, "true"])
def test_counts_are_whole_numbers_in_range(text: str) -> None:
    """A pool of none would stop the gateway, and Python's own leniency is not ours."""
    assert is_refused("max_concurrent_leaders", text)


def test_a_waiting_room_may_be_empty() -> None:
    """A queue of 0 means: shed whatever cannot start now."""
    assert value("queue_size", "0") == 0


@pytest.mark.parametrize(("text", "time"), [("0.25", 0.25), ("5", 5.0), ("1e2", 100.0), ("1e9", 1e9)])
def test_timers_take_seconds(text: str, time: float) -> None:
    """Fractions are fine."""
    assert value("queue_timeout_s", text) == time


@pytest.mark.parametrize("text", ["0", "-1", "inf", "nan", "-inf", "1_0", "5s", "2e9", "1e400", "five"])
def test_timers_are_finite_and_positive(text: str) -> None:
    """A timer of nothing or for ever is no timer."""
    assert is_refused("queue_timeout_s", text)


def test_a_lease_has_a_least_length() -> None:
    """It is renewed three times before it ends: processes would do nothing else."""
    assert value("lease_s", "0.1") == 0.1
    assert is_refused("lease_s", "0.09")


@pytest.mark.parametrize("name", ["cache_ttl_s", "abandon_grace_s", "drain_timeout_s"])
def test_some_spans_may_be_nothing(name: str) -> None:
    """No cache, no grace and no drain are choices."""
    assert value(name, "0") == 0.0
    assert is_refused(name, "-0.1")


@pytest.mark.parametrize(("text", "flag"), [("0", False), ("1", True)])
def test_flags_are_0_or_1(text: str, flag: bool) -> None:
    """One spelling each."""
    assert value("durable", text) is flag


@pytest.mark.parametrize("text", ["yes", "true", "2", "on"])
def test_flags_are_nothing_else(text: str) -> None:
    """What would have to be guessed is refused."""
    assert is_refused("durable", text)


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("abandon_policy", ("cancel", "finish")),
        ("share_scope", ("tenant", "global")),
        ("key_normalization", ("exact", "loose")),
    ],
)
def test_choices_are_the_listed_words(name: str, good: tuple[str, ...]) -> None:
    """The sentence lists what there is to choose from."""
    assert [value(name, word) for word in good] == list(good)
    with pytest.raises(SettingsError, match=f"must be {' or '.join(good)}, not 'Cancel'"):
        load({f"REFRAIN_{name.upper()}": "Cancel"})


def test_code_may_pass_finished_values() -> None:
    """Tests and tools build Settings from keywords, by the same rules."""
    made = Settings(max_concurrent_leaders=2, queue_timeout_s=0.5, durable=True, local_cache_bytes=0)
    assert (made.max_concurrent_leaders, made.queue_timeout_s, made.durable) == (2, 0.5, True)
    with pytest.raises(ValueError, match="max_concurrent_leaders"):
        Settings(max_concurrent_leaders=0)


def test_settings_do_not_change() -> None:
    """Limits are read once at start."""
    with pytest.raises(ValueError, match="frozen"):
        Settings().__setattr__("cache_workers", 5)
