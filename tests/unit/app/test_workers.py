"""The parent of several workers: what a signal means to them, what they are told, what a death leads to."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import pytest

from app.framing import read_now
from app.gateway import Addresses
from app.workers import Workers
from cache.targets import RedisTarget
from config.settings import Settings
from runtime.supervisor import Supervisor
from tests.fakes.turns import settle, until

pytestmark = pytest.mark.anyio

REDIS = "redis://user:canary@127.0.0.1:9"


class Child:
    """Stands in for a ChildProcess: notes what it is told."""

    def __init__(self) -> None:
        self.heard: list[int] = []
        self.stopped: list[float] = []
        self.retired = False

    def signal(self, number: int) -> None:
        self.heard.append(number)

    def retire(self) -> None:
        self.retired = True

    async def stop(self, grace_s: float) -> None:
        assert self.retired, "else it would be started again"
        self.stopped.append(grace_s)


@contextmanager
def listening() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


@asynccontextmanager
async def parent(count: int = 2) -> AsyncIterator[tuple[Workers, list[Child]]]:
    """The parent of so many workers, none of which is a process; no Redis answers."""
    supervisor = Supervisor()
    addresses = Addresses("http://127.0.0.1:9/v1", RedisTarget(REDIS), simulated=True, shared=True)
    settings = Settings(web_concurrency=count, drain_timeout_s=20.0)
    with listening() as sock:
        workers = Workers(settings, {"port": "9"}, addresses, sock, supervisor)
        children = [Child() for _ in range(count)]
        workers._children = cast(Any, dict(enumerate(children, 1)))
        try:
            yield workers, children
        finally:
            await supervisor.close()
            await workers.close()


async def test_a_sigterm_stops_all_with_the_time_of_a_drain() -> None:
    """Each drains by itself; who hangs is killed only after its drain, and nobody is started again."""
    async with parent() as (workers, children):
        for _ in range(3):
            workers.signalled(signal.SIGTERM)
        await workers.until_over()
        for child in children:
            assert child.heard == [], "`stop` sends the SIGTERM"
            assert len(child.stopped) == 1
            assert child.stopped[0] > 20.0


async def test_each_interrupt_is_handed_on_by_itself() -> None:
    """Row 87: two that are sent at once would be one to a worker, which would then drain to the end."""
    async with parent() as (workers, children):
        workers.signalled(signal.SIGINT)
        assert [child.heard for child in children] == [[signal.SIGINT]] * 2
        workers.signalled(signal.SIGINT)
        assert [child.heard for child in children] == [[signal.SIGINT] * 2] * 2
        await workers.until_over()


async def test_whoever_ignores_a_second_interrupt_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 87: Ctrl-C twice ends at once, a worker that hangs or not."""
    monkeypatch.setattr("app.workers.FORCED_S", 0.0)
    async with parent() as (workers, children):
        workers.signalled(signal.SIGINT)
        await settle()
        assert signal.SIGKILL not in children[0].heard
        workers.signalled(signal.SIGINT)
        async with asyncio.timeout(10):
            while not all(signal.SIGKILL in child.heard for child in children):
                await asyncio.sleep(0)


async def test_a_worker_is_handed_over_what_it_needs_and_nothing_by_its_arguments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Row 77: the address of Redis has a password in it, and a command line is for everybody to read."""
    monkeypatch.setattr("app.workers.HANDED_S", 0.0)
    async with parent() as (workers, _):
        arguments, (theirs,) = workers._prepare(1)
        assert arguments == ["--control", str(theirs)]
        assert "canary" not in " ".join(arguments)
        with socket.socket(fileno=os.dup(theirs)) as line:
            handover = read_now(line)
            assert handover["redis"] == REDIS
            assert (handover["worker"], handover["workers"], handover["flags"]) == (1, 2, {"port": "9"})
            await until(lambda: workers._roster.line(1))
            assert workers._procs[1] == handover["proc"]
            workers._roster.leave(1)
            await until(lambda: closed(theirs))
            assert await asyncio.to_thread(line.recv, 1) == b"", "the worker sees its parent's end closed"


def closed(fd: int) -> bool:
    """Is our copy of the worker's end closed? Kept, it would hide the worker's death from the roster."""
    try:
        os.fstat(fd)
    except OSError:
        return True
    return False


async def test_the_end_of_a_worker_that_never_began_is_no_restart(caplog: pytest.LogCaptureFixture) -> None:
    """There is no line to it, nothing it held, and nobody to bury."""
    async with parent() as (workers, _):
        with caplog.at_level(logging.WARNING):
            workers._ended(1, 1)
        assert workers._roster.restarts == 0
    assert caplog.records == []
