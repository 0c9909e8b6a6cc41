"""`refrain cache purge`: what an operator types while the gateway runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from redis import Redis

from tests.fakes.eventually import eventually
from tests.fakes.real_redis import real_redis, supervised
from tests.system.client import Client
from tests.system.processes import ROOT
from tests.system.scene import Simulate, Start, embedded_socket

pytestmark = pytest.mark.anyio

KEYS = "one:key-of-one-1234,two:key-of-two-5678"


def purge(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **env}
    return subprocess.run(
        [sys.executable, "-m", "app.cli", "cache", "purge", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT,
        timeout=60,
        check=False,
    )


async def stored(root: str, count: int) -> None:
    """Until the embedded Redis below this folder holds so many: `done` does not wait for the store."""
    await stored_at(embedded_socket(root), count)


async def stored_at(socket: str, count: int) -> None:
    with Redis(unix_socket_path=socket) as redis:
        await eventually(lambda: len(redis.keys("g:*:c:*")) == count)


async def test_a_purge_makes_the_next_one_ask_again(simulate: Simulate, start: Start) -> None:
    """Issue part 4: all that the embedded Redis holds is forgotten, and only in the instance meant."""
    simulator = simulate(ttft=0, tps=0)
    with TemporaryDirectory(prefix="rf-") as root, TemporaryDirectory(prefix="rf-") as elsewhere:
        gateway = start(simulator, LOCAL_CACHE_BYTES=0, XDG_RUNTIME_DIR=root)
        other = start(simulator, LOCAL_CACHE_BYTES=0, XDG_RUNTIME_DIR=elsewhere)
        async with Client(gateway.url) as client, Client(other.url) as untouched:
            for question in ("one", "two"):
                await client.ask(question)
                await untouched.ask(question)
            await stored(root, 2)
            await stored(elsewhere, 2)
            done = purge(PORT="0", XDG_RUNTIME_DIR=root)
            assert (done.returncode, done.stderr) == (0, "")
            assert done.stdout.startswith("2 answers purged")
            assert purge(PORT="0", XDG_RUNTIME_DIR=root).stdout.startswith("0 answers purged")
            assert (await client.ask("one")).end.json["cache"] == "miss"
            assert (await client.ask("one")).end.json["cache"] == "hit"
            assert (await untouched.ask("two")).end.json["cache"] == "hit"


async def test_a_purge_of_one_tenant_leaves_the_others(simulate: Simulate, start: Start) -> None:
    """Issue part 4: `--tenant one` forgets what belongs to one, in the Redis that REDIS_URL names."""
    simulator = simulate(ttft=0, tps=0)
    async with supervised() as supervisor, real_redis(supervisor) as redis:
        url = f"unix://{redis.socket_path}"
        gateway = start(simulator, LOCAL_CACHE_BYTES=0, REDIS_URL=url, API_KEYS=KEYS)
        async with (
            Client(gateway.url, "key-of-one-1234") as one,
            Client(gateway.url, "key-of-two-5678") as two,
        ):
            for client in (one, two):
                for question in ("a", "b", "c"):
                    await client.ask(question)
            await stored_at(str(redis.socket_path), 6)
            assert purge("--tenant", "nobody", REDIS_URL=url).stdout.startswith("0 answers purged")
            assert purge("--tenant", "*", REDIS_URL=url).stdout.startswith("0 answers purged")
            done = purge("--tenant", "one", REDIS_URL=url)
            assert (done.returncode, done.stderr) == (0, "")
            assert done.stdout.startswith("3 answers purged")
            assert (await two.ask("a")).end.json["cache"] == "hit"
            assert (await one.ask("a")).end.json["cache"] == "miss"
    assert simulator.stats()["calls"] == 7


async def test_a_purge_is_noticed_by_the_layer_in_front(simulate: Simulate, start: Start) -> None:
    """Issue part 4: a running process serves its own copies for 5 s at most, however often asked."""
    simulator = simulate(ttft=0, tps=0)
    with TemporaryDirectory(prefix="rf-") as root:
        gateway = start(simulator, XDG_RUNTIME_DIR=root)
        async with Client(gateway.url) as client:
            await client.ask("kept for a moment")
            await stored(root, 1)
            assert purge(PORT="0", XDG_RUNTIME_DIR=root).stdout.startswith("1 answers purged")

            async def asked_anew() -> bool:
                return bool((await client.ask("kept for a moment")).end.json["cache"] == "miss")

            await eventually(asked_anew, within=20)
    assert simulator.stats()["calls"] == 2


async def test_a_purge_says_when_it_could_not_be_done(tmp_path: Path) -> None:
    """Issue part 4: no server behind REDIS_URL: exit status 1 and a sentence, and no traceback."""
    failed = purge(REDIS_URL=f"unix://{tmp_path}/nobody.sock")
    assert failed.returncode == 1
    assert failed.stderr.startswith("Redis did not go along")
    assert "Traceback" not in failed.stderr
    assert failed.stdout == ""


async def test_a_purge_of_an_instance_that_does_not_run_says_so(tmp_path: Path) -> None:
    """Issue part 4: with a wrong PORT nothing is purged, and that must not look like an empty cache."""
    missed = purge(PORT="65000", XDG_RUNTIME_DIR=str(tmp_path))
    assert missed.returncode == 1
    assert "65000" in missed.stderr
