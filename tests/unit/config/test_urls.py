"""Addresses are checked, normalised, and never shown with what is secret in them."""

from __future__ import annotations

import pytest

from config import SettingsError, load
from config.urls import masked


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
        ("https://models.example/v1/", "https://models.example/v1"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_the_upstream_has_no_slash_at_its_end(given: str, kept: str) -> None:
    """Paths are appended to it."""
    assert load({"OPENAI_BASE_URL": given}).upstream_base_url == kept


@pytest.mark.parametrize(
    "given",
    [
        "models.example",
        "ftp://h/v1",
        "http://",
        "http://h:99999",
        "http://h:0",
        "http://u:p@h",
        "http://h/?k=1",
        "http://h h",
    ],
)
def test_an_address_that_is_none_is_refused(given: str) -> None:
    """So is one with a password: the upstream's key has a setting of its own."""
    with pytest.raises(SettingsError, match=r"^OPENAI_BASE_URL must be an http:// or https:// address"):
        load({"OPENAI_BASE_URL": given})


def test_a_key_alone_selects_openai() -> None:
    """As in OpenAI's own libraries; an address beats it, and nothing at all selects nothing."""
    assert load({"OPENAI_API_KEY": "k"}).upstream_base_url == "https://api.openai.com/v1"
    assert load({"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://h"}).upstream_base_url == "http://h"
    assert load({}).upstream_base_url is None


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("redis://:pw@h:6379/1", "redis://:pw@h:6379/1"),
        ("rediss://h", "rediss://h"),
        ("unix:///run/redis.sock?db=2", "unix:///run/redis.sock?db=2"),
        ("valkey://h:6379", "redis://h:6379"),
        ("valkeys://h", "rediss://h"),
    ],
)
def test_redis_addresses_reach_the_client_in_schemes_it_knows(given: str, kept: str) -> None:
    """Valkey speaks the same protocol under a name of its own."""
    url = load({"REDIS_URL": given}).redis_url
    assert url is not None
    assert url.get_secret_value() == kept


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("redis+sentinel://a:1,b:2/main", "redis+sentinel://a:1,b:2/main"),
        ("redis+sentinel://:pw@a,b/main/3", "redis+sentinel://***@a,b/main/3"),
        ("redis+cluster://u:p@a:1,[::1]:2", "redis+cluster://***@a:1,[::1]:2"),
        ("valkeys+cluster://a,b", "rediss+cluster://a,b"),
    ],
)
def test_several_hosts_are_sentinels_or_a_cluster(given: str, shown: str) -> None:
    """Each topology has a scheme of its own, and the password is as secret as before."""
    loaded = load({"REDIS_URL": given}).redis_url
    assert loaded is not None
    assert masked(loaded.get_secret_value()) == shown


@pytest.mark.parametrize(
    "given",
    [
        "redis://a,b",
        "redis+cluster://a:0",
        "redis+cluster://,a",
        "redis+sentinel://a:1,b:2",
        "redis+sentinel://,a/main",
        "redis+other://a",
        "unix+cluster:///a",
    ],
)
def test_what_is_no_address_of_several_hosts_is_refused(given: str) -> None:
    """A sentinel without its service's name would be found out at the first request only."""
    with pytest.raises(SettingsError, match=r"^REDIS_URL must be .* address\.$"):
        load({"REDIS_URL": given})


@pytest.mark.parametrize("given", ["localhost:6379", "http://h", "redis://", "unix://", "redis://h:x"])
def test_what_is_no_redis_address_is_refused(given: str) -> None:
    """The address may hold a password, so it is not repeated."""
    with pytest.raises(SettingsError, match=r"^REDIS_URL must be .* address\.$"):
        load({"REDIS_URL": given})


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("redis://user:pw@h:1/0", "redis://***@h:1/0"),
        ("redis://h:1/0", "redis://h:1/0"),
        ("http://t0k3n@h/p?key=pw#pw", "http://***@h/p?***"),
        ("unix:///run/r.sock?password=pw", "unix:///run/r.sock?***"),
    ],
)
def test_masking_leaves_only_the_place(url: str, seen: str) -> None:
    """User names may be tokens and queries may be keys, so both go."""
    assert masked(url) == seen
