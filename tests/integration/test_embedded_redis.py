"""The embedded server as a process: where it lives, what it is told, and that it leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cache.embedded import EmbeddedRedis
from cache.errors import StoreError
from cache.folders import InstanceFolder, running_sockets
from cache.purge import purge
from cache.targets import RedisTarget
from tests.fakes.answers import SCOPE, key
from tests.fakes.eventually import eventually
from tests.fakes.real_redis import admin, real_redis, redis_store, supervised

pytestmark = pytest.mark.anyio

REPO = Path(__file__).parents[2]


@pytest.fixture
def root() -> Iterator[Path]:
    # Not pytest's tmp_path: its names are too long for a unix socket.
    with tempfile.TemporaryDirectory(prefix="rf-") as path:
        yield Path(path)


def socket_of(redis: EmbeddedRedis) -> Path:
    assert redis.socket_path is not None
    return redis.socket_path


def is_gone(pid: int) -> bool:
    """Ended, whether or not its new parent has taken notice yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


async def test_server_listens_on_its_private_socket_alone() -> None:
    """Mode 0700, no TCP port, no file of data, memory bounded, and only keys with a TTL are evicted."""
    async with supervised() as supervisor, real_redis(supervisor, max_bytes=50 << 20) as redis:
        socket = socket_of(redis)
        async with admin(socket) as client:
            told = [await client.config_get(name) for name in ("port", "save", "appendonly", "maxmemory*")]

        assert (socket.parent.stat().st_mode & 0o777, socket.stat().st_mode & 0o777) == (0o700, 0o700)
        assert told[:3] == [{"port": "0"}, {"save": ""}, {"appendonly": "no"}]
        assert (told[3]["maxmemory"], told[3]["maxmemory-policy"]) == (str(50 << 20), "volatile-lfu")


async def test_nothing_is_left_after_stop(root: Path) -> None:
    """No child, no socket, no folder; stopping twice is fine."""
    async with supervised() as supervisor:
        redis = EmbeddedRedis(root, "main", 1 << 26)
        assert await redis.start(supervisor)
        pid, socket = redis.pid, socket_of(redis)
        assert pid is not None

        await redis.stop()
        await redis.stop()

        assert is_gone(pid)
        assert not socket.parent.exists()


async def test_two_of_one_name_have_nothing_in_common(root: Path) -> None:
    """Each has a folder, a server and answers of its own."""
    async with supervised() as supervisor:
        first, second = (EmbeddedRedis(root, "main", 1 << 26) for _ in range(2))
        assert await first.start(supervisor)
        assert await second.start(supervisor)
        assert running_sockets(root, "main") == [socket_of(first), socket_of(second)]

        async with redis_store(socket_of(first)) as one, redis_store(socket_of(second)) as other:
            await one.put(key(1), b"value", 60)
            assert await other.get_many([key(1)]) == [None]

        await first.stop()
        await second.stop()


async def test_killed_server_comes_back_on_the_same_socket() -> None:
    """Empty, but there: the socket's path does not change."""
    async with (
        supervised() as supervisor,
        real_redis(supervisor) as redis,
        redis_store(socket_of(redis)) as store,
    ):
        assert redis.pid is not None
        os.kill(redis.pid, signal.SIGKILL)

        async def answers_again() -> bool:
            try:
                return await store.put(key(1), b"value", 60)
            except StoreError:
                return False

        await eventually(answers_again)
        assert await store.get_many([key(1)]) == [b"value"]


PARENT = """
import asyncio, sys
from pathlib import Path
from cache.embedded import EmbeddedRedis
from runtime.supervisor import Supervisor

async def main():
    redis = EmbeddedRedis(Path(sys.argv[1]), "main", 1 << 26)
    assert await redis.start(Supervisor())
    print(redis.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_killed_gateway_leaves_no_server_and_its_folder_is_swept(root: Path) -> None:
    """After kill -9 the kernel ends the server, and the next start clears up and takes the name again."""
    env = {**os.environ, "PYTHONPATH": str(REPO)}
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(root)], stdout=subprocess.PIPE, text=True, env=env
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
        await eventually(lambda: is_gone(pid))

    left = running_sockets(root, "main")
    folder = InstanceFolder.claim(root, "main")

    assert left == []
    assert folder.path.name == "main"
    assert [path.name for path in folder.path.iterdir()] == ["lock"]
    folder.release()


async def test_purge_from_outside_finds_the_instance_by_its_name(root: Path) -> None:
    """What `refrain cache purge` does: one scope, or all."""
    async with supervised() as supervisor:
        redis = EmbeddedRedis(root, "main", 1 << 26)
        assert await redis.start(supervisor)
        async with redis_store(socket_of(redis)) as store:
            for number in range(10):
                await store.put(key(number), b"mine", 60)
            await store.put(key(1, "0" * 16), b"theirs", 60)
        (socket,) = running_sockets(root, "main")
        target = RedisTarget.unix(socket)

        assert await purge(target, SCOPE) == 10
        assert await purge(target) == 1

        await redis.stop()
