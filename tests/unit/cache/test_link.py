"""The line to Redis: up only while it can be trusted, quick to fail while not, no caller forgotten."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cache.errors import StoreDown, StoreError, StoreRefused
from cache.link import MAX_BATCH, Link
from cache.scripts import Script
from cache.targets import RedisTarget
from tests.fakes.eventually import eventually
from tests.fakes.real_redis import supervised
from tests.faults import FaultProxy, Mode
from tests.servers import RedisServer, standalone

pytestmark = pytest.mark.anyio
PROC = "a" * 16
ECHO = Script.of("forget")


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with standalone() as server:
        yield server


@dataclass
class Line:
    """A link, and what it has said of itself: "up", "down", and the name of each call that failed."""

    link: Link
    told: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    async def works(self) -> bool:
        try:
            return bool(await self.link.do("PING") in (b"PONG", True))
        except StoreError:
            return False

    async def recovers(self) -> None:
        """Row 14: within ten seconds, without a restart."""
        await eventually(self.works, within=10.0)


@asynccontextmanager
async def line(url: str, proc: str = PROC) -> AsyncIterator[Line]:
    failed: list[str] = []
    link = Link(RedisTarget(url), proc, on_error=failed.append)
    line = Line(link, failed=failed)
    link.on_up(lambda: line.told.append("up"))
    link.on_down(lambda: line.told.append("down"))
    try:
        async with supervised() as supervisor:
            link.start(supervisor)
            yield line
    finally:
        await link.close()


async def outcome(call: Any) -> str:
    """How a call ended; anything but these two errors fails the test."""
    try:
        await call
    except (StoreDown, StoreRefused) as error:
        return type(error).__name__
    return "ok"


async def test_calls_come_back_to_their_own_callers(server: RedisServer) -> None:
    """Hundreds at once in a few pipelines: each gets its own reply."""
    async with line(server.url) as one:
        await one.link.until_up()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one.link.do("ECHO", f"{n}")) for n in range(3 * MAX_BATCH)]
        assert [int(task.result()) for task in tasks] == list(range(3 * MAX_BATCH))
        assert one.failed == []


async def test_without_a_server_it_is_down_and_says_so_at_once(tmp_path: Path) -> None:
    """Neither starting nor asking waits for a server that is not there."""
    async with line(f"unix://{tmp_path}/nobody") as one:
        assert not one.link.up
        with pytest.raises(StoreDown, match="no link"):
            await one.link.run(ECHO, ["k"], ("v",))
        assert one.told == []


async def test_a_refusal_is_not_trouble(server: RedisServer) -> None:
    """A living server said no: the link stays up, and the message of the error does not leave this file."""
    async with line(server.url) as one:
        await one.link.until_up()
        with pytest.raises(StoreRefused) as caught:
            await one.link.do("HSET", "secret")
        assert str(caught.value) == "hset: ResponseError"
        assert one.link.up
        assert one.failed == ["hset"]


async def test_a_refused_call_spoils_no_other_of_its_pipeline(server: RedisServer) -> None:
    """Many share a round trip, each has its own fate."""
    async with line(server.url) as one:
        await one.link.until_up()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(outcome(one.link.do(*(("ECHO", "x") if n % 2 else ("HSET", "k")))))
                for n in range(40)
            ]
        assert [task.result() for task in tasks] == ["StoreRefused", "ok"] * 20


async def test_scripts_that_the_server_has_forgotten_are_sent_again(server: RedisServer) -> None:
    """Prototype bug f: SCRIPT FLUSH, a restart, a failover; no caller sees a NOSCRIPT."""
    async with line(server.url) as one:
        await one.link.until_up()
        with server.client as client:
            for _ in range(2):
                client.script_flush()
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(one.link.run(ECHO, ["k"], ("v",))) for _ in range(10)]
                assert [task.result() for task in tasks] == [0] * 10
            assert client.script_exists(ECHO.sha) == [True]


async def test_a_server_that_was_killed_is_found_again_empty(server: RedisServer) -> None:
    """Down with its first evidence, up by itself; whoever listens is told of both, once, in this order."""
    async with line(server.url) as one:
        await one.link.until_up()
        await eventually(lambda: "up" in one.told)
        one.told.clear()
        server.kill()
        await eventually(lambda: not one.link.up)
        assert await outcome(one.link.do("PING")) == "StoreDown"
        assert one.link.down_for > 0.0
        server.start()
        await one.recovers()
        assert one.told[0] == "down"
        assert one.told.count("down") == 1
        assert "up" in one.told
        assert one.link.down_for == 0.0


async def test_killed_connections_cost_nobody_anything(server: RedisServer) -> None:
    """CLIENT KILL of every kind under load: a broken call is made once more, the inbox subscribes anew."""
    async with line(server.url) as one:
        await one.link.until_up()
        heard: list[str] = []
        one.link.listen("D", heard.append)
        with server.client as client:
            for kind in ("normal", "pubsub", "normal", "pubsub"):
                client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
                await one.recovers()
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(outcome(one.link.do("ECHO", "x"))) for _ in range(50)]
                assert {task.result() for task in tasks} <= {"ok", "StoreDown"}

        async def arrives() -> bool:
            if one.link.up:
                await outcome(one.link.do("PUBLISH", f"g:i:{PROC}", "D|x"))
            return bool(heard)

        await eventually(arrives, within=10.0)


async def test_a_frozen_server_is_waited_for_once(server: RedisServer) -> None:
    """SIGSTOP: calls under way end in their own time, later ones fail at once; SIGCONT brings it back."""
    async with line(server.url) as one:
        await one.link.until_up()
        server.signal(signal.SIGSTOP)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(outcome(one.link.do("PING", timeout_s=0.3))) for _ in range(300)]
            assert {task.result() for task in tasks} == {"StoreDown"}
            await eventually(lambda: not one.link.up)
            for _ in range(100):
                with pytest.raises(StoreDown, match="no link"):
                    await one.link.do("PING")
        finally:
            server.signal(signal.SIGCONT)
        await one.recovers()


async def test_callers_that_leave_by_the_hundred_break_nothing(server: RedisServer) -> None:
    """Half of 600 are cancelled before, while and after they are sent: the others get their own replies."""
    async with line(server.url) as one:
        await one.link.until_up()
        replies: dict[int, bytes] = {}

        async def ask(number: int) -> None:
            replies[number] = await one.link.do("ECHO", f"{number}")

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask(number)) for number in range(600)]
            for turn in range(6):
                await asyncio.sleep(0)
                for task in tasks[turn::12]:
                    task.cancel()
        kept = {number for number, task in enumerate(tasks) if not task.cancelled()}
        assert len(kept) >= 300
        assert set(replies) == kept
        assert all(replies[number] == b"%d" % number for number in kept)
        assert (one.link.up, one.failed, repr(one.link)) == (True, [], f"<Link {PROC} up, 0 waiting>")


Fault = Callable[[FaultProxy], None]


def _refuse(proxy: FaultProxy) -> None:
    proxy.mode = Mode.REFUSE
    proxy.cut()


FAULTS: dict[str, Fault] = {
    "blackhole": lambda proxy: setattr(proxy, "mode", Mode.BLACKHOLE),
    "freeze": lambda proxy: setattr(proxy, "mode", Mode.FREEZE),
    "refuse": _refuse,
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_every_call_ends_whatever_happens_to_the_line(server: RedisServer, fault: str) -> None:
    """No lost future: each of 400 ends with a reply or StoreDown, half of them cancelled on the way."""
    with FaultProxy(server.port) as proxy:
        async with line(f"redis://127.0.0.1:{proxy.port}") as one:
            await one.link.until_up()
            async with asyncio.timeout(20.0), asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(outcome(one.link.do("ECHO", "x", timeout_s=0.5))) for _ in range(400)
                ]
                await asyncio.sleep(0)
                FAULTS[fault](proxy)
                for task in tasks[::2]:
                    task.cancel()
            ends = {task.result() for task in tasks if not task.cancelled()}
            assert ends <= {"ok", "StoreDown"}
            assert ends
            await eventually(lambda: not one.link.up)
            proxy.mode = Mode.PASS
            proxy.cut()
            await one.recovers()


async def test_a_replica_is_no_server_to_write_to(server: RedisServer) -> None:
    """Behind a failover the old primary answers but takes no write: that is down, not a refusal for ever."""
    with standalone() as primary:
        async with line(server.url) as one:
            await one.link.until_up()
            with server.client as client:
                client.replicaof("127.0.0.1", primary.port)
                try:
                    assert await outcome(one.link.do("SET", "k", "v", "PX", 1000)) == "StoreDown"
                    assert not one.link.up
                finally:
                    client.replicaof("NO", "ONE")
            await one.recovers()


async def test_without_an_inbox_it_is_up_with_the_first_answer(server: RedisServer) -> None:
    """A supervisor process has no inbox: nobody pushes to it."""
    async with line(server.url, "") as one:
        await one.link.until_up()
        one.link.listen("D", one.told.append)
        one.link.renew_inbox()
        assert await one.works()
        assert one.told == ["up"]
