"""Private folders: claimed, told apart from dead ones, never shared."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

import pytest

from cache.folders import FolderError, InstanceFolder, default_root, running_sockets


def base_of(root: Path) -> Path:
    return root / f"refrain-{os.geteuid()}"


@pytest.fixture
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Short: a unix socket's path has 107 bytes.
    return tmp_path_factory.mktemp("f")


def test_folder_is_ours_alone_and_gone_after_release(root: Path) -> None:
    """Mode 0700 on the way down; nothing stays but the base and its lock."""
    folder = InstanceFolder.claim(root, "main")
    assert folder.socket == base_of(root) / "main" / "redis.sock"
    assert [path.stat().st_mode & 0o777 for path in (base_of(root), folder.path)] == [0o700, 0o700]

    folder.release()
    folder.release()

    assert [path.name for path in base_of(root).iterdir()] == [".lock"]


def test_second_instance_of_a_name_gets_a_folder_of_its_own(root: Path) -> None:
    """Two gateways of one name never share a server by accident; a freed name is used again."""
    first, second = InstanceFolder.claim(root, "main"), InstanceFolder.claim(root, "main")
    assert (first.path.name, second.path.name) == ("main", "main-2")

    first.release()
    third = InstanceFolder.claim(root, "main")

    assert third.path.name == "main"
    second.release()
    third.release()


def test_folders_of_the_dead_are_swept_and_those_of_the_living_are_not(root: Path) -> None:
    """A lock that nobody holds means that its owner is gone, whatever lies in the folder."""
    living = InstanceFolder.claim(root, "living")
    for name in ("dead", "unfinished"):
        (base_of(root) / name).mkdir()
    (base_of(root) / "dead" / "lock").touch()
    (base_of(root) / "dead" / "redis.sock").touch()

    claimed = InstanceFolder.claim(root, "main")

    assert sorted(path.name for path in base_of(root).iterdir()) == [".lock", "living", "main"]
    claimed.release()
    living.release()


def test_link_in_place_of_the_base_is_refused(root: Path) -> None:
    """In a shared /tmp somebody else may have been there first."""
    (root / "elsewhere").mkdir()
    base_of(root).symlink_to(root / "elsewhere")

    with pytest.raises(FolderError, match="link"):
        InstanceFolder.claim(root, "main")


def test_file_in_place_of_the_base_is_refused(root: Path) -> None:
    """Nothing is removed that is not ours to remove."""
    base_of(root).touch()

    with pytest.raises(FolderError):
        InstanceFolder.claim(root, "main")


def test_open_base_of_ours_is_closed(root: Path) -> None:
    """Left behind with the wrong mode, it is put right before a socket lies in it."""
    base_of(root).mkdir(mode=0o755)
    folder = InstanceFolder.claim(root, "main")

    assert base_of(root).stat().st_mode & 0o777 == 0o700
    folder.release()


def test_root_that_cannot_be_written_is_told(root: Path) -> None:
    """A typed error with a reason, not a traceback from the depths."""
    with pytest.raises(FolderError, match="cannot be made"):
        InstanceFolder.claim(root / "missing", "main")


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "a b", "x" * 49, "ü"])
def test_name_that_is_no_file_name_is_refused(root: Path, name: str) -> None:
    """A name never leads out of the base."""
    with pytest.raises(FolderError, match="name"):
        InstanceFolder.claim(root, name)


def test_path_too_long_for_a_socket_is_refused(root: Path) -> None:
    """At start with a clear message, and not by a server that cannot bind."""
    deep = root / ("d" * 60) / ("e" * 40)
    deep.mkdir(parents=True)

    with pytest.raises(FolderError, match="too long"):
        InstanceFolder.claim(deep, "main")


def test_only_sockets_of_living_instances_are_found(root: Path) -> None:
    """Purging asks nobody who is dead, and finds every twin."""
    assert running_sockets(root, "main") == []
    folders = [InstanceFolder.claim(root, "main") for _ in range(2)]
    sockets = []
    for folder in folders:
        sockets.append(socket.socket(socket.AF_UNIX))
        sockets[-1].bind(str(folder.socket))
    assert running_sockets(root, "main") == [folder.socket for folder in folders]
    assert running_sockets(root, "other") == []

    fcntl.flock(folders[0]._lock or -1, fcntl.LOCK_UN)

    assert running_sockets(root, "main") == [folders[1].socket]
    for sock in sockets:
        sock.close()
    for folder in folders:
        folder.release()


def test_runtime_folder_is_preferred_if_it_exists(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """XDG_RUNTIME_DIR is private and short; one that is set and missing is passed over."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(root))
    assert default_root() == root

    monkeypatch.setenv("XDG_RUNTIME_DIR", str(root / "missing"))
    assert default_root() != root / "missing"
