"""One private folder per embedded Redis, claimed by a lock that the kernel drops when its owner dies.

    <root>/refrain-<uid>/.lock             held for moments, by whoever changes the set of folders
    <root>/refrain-<uid>/<instance>/lock   held for life by the process the folder belongs to

Claiming, sweeping and removing happen under the first lock, so that nobody can lock a folder that is
being removed.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SOCKET = "redis.sock"
MAX_SOCKET_PATH = 107  # sun_path has 108 bytes, one of them for the end
_MAX_TWINS = 100


class FolderError(Exception):
    """No private folder can be had; the message says why."""


def default_root() -> Path:
    """XDG_RUNTIME_DIR if there is one, else the temporary folder."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    return Path(runtime) if runtime and os.path.isdir(runtime) else Path(tempfile.gettempdir())


class InstanceFolder:
    """A claimed folder. It is ours until `release`, or until this process dies."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock: int | None = lock

    def __repr__(self) -> str:
        return f"<InstanceFolder {self.path.name}>"

    @property
    def socket(self) -> Path:
        return self.path / SOCKET

    @classmethod
    def claim(cls, root: Path, instance: str) -> InstanceFolder:
        """Sweep the folders of the dead, then make one: `instance`, or `instance-2` … if that one lives.

        FolderError for a name that is none, a path too long for a socket, or a base that is not ours.
        """
        base = _base(root)
        _check_name(base, instance)
        _make_private(base)
        with _locked(base):
            _sweep(base)
            for name in _names(instance):
                folder = cls._try(base / name)
                if folder is not None:
                    return folder
        raise FolderError(f"{_MAX_TWINS} instances are called {instance}")

    def release(self) -> None:
        """Remove the folder and everything in it. Idempotent."""
        if self._lock is None:
            return
        with _locked(self.path.parent):
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
        self._lock = None

    @classmethod
    def _try(cls, path: Path) -> InstanceFolder | None:
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            return None
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return cls(path, lock)


def running_sockets(root: Path, instance: str) -> list[Path]:
    """The sockets of the running instances of that name, the first one first."""
    base = _base(root)
    if not base.is_dir():
        return []
    _make_private(base)
    paths = (base / name for name in _names(instance))
    # Testing a lock takes it for a moment: without the outer one, a claim could trip over that.
    with _locked(base):
        return [path / SOCKET for path in paths if (path / SOCKET).is_socket() and not _is_dead(path)]


def _base(root: Path) -> Path:
    return root / f"refrain-{os.geteuid()}"


def _names(instance: str) -> Iterator[str]:
    yield instance
    yield from (f"{instance}-{number}" for number in range(2, _MAX_TWINS + 1))


def _check_name(base: Path, instance: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,47}", instance):
        raise FolderError("an instance's name is 1 to 48 letters, digits, dots, dashes or underscores")
    longest = base / f"{instance}-{_MAX_TWINS}" / SOCKET
    if len(os.fsencode(longest)) > MAX_SOCKET_PATH:
        raise FolderError("the folder's path is too long for a unix socket; choose a shorter root")


def _make_private(base: Path) -> None:
    """Make the base, or accept one that is a real folder of ours. Anything else may be a trap in /tmp."""
    try:
        base.mkdir(mode=0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise FolderError(f"the folder cannot be made: {error.strerror}") from error
    found = base.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise FolderError("the folder belongs to somebody else, or is a link")
    base.chmod(0o700)


@contextmanager
def _locked(base: Path) -> Iterator[None]:
    lock = os.open(base / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _sweep(base: Path) -> None:
    for path in base.iterdir():
        if path.is_dir() and not path.is_symlink() and _is_dead(path):
            shutil.rmtree(path, ignore_errors=True)


def _is_dead(path: Path) -> bool:
    """Whether nobody holds the folder's lock. A folder without one was left by a crash while claiming."""
    try:
        lock = os.open(path / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True
