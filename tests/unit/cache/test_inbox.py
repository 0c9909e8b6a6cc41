"""The inbox: what is pushed is heard, a deaf subscription is noticed, and a bad message harms nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from cache.errors import StoreDown
from cache.inbox import ECHO_S, Inbox
from cache.link import Link
from cache.targets import RedisTarget
from runtime.supervisor import Supervisor
from tests.fakes.eventually import eventually
from tests.fakes.real_redis import supervised
from tests.fakes.turns import settle
from tests.faults import FaultProxy, Mode
from tests.servers import standalone
from tests.virtual_time import virtual


class FakeServer:
    """Publishes to its subscriptions. `deaf`: nothing is pushed. `broken`: nobody can connect."""

    def __init__(self) -> None:
        self.up = True
        self.deaf = False
        self.broken = False
        self.subscriptions: list[FakePubSub] = []
        self.closed = 0

    async def connect(self) -> Any:
        await asyncio.sleep(0)
        if self.broken:
            raise OSError("nobody")
        return self

    def pubsub(self) -> FakePubSub:
        self.subscriptions.append(FakePubSub(self))
        return self.subscriptions[-1]

    async def do(self, *command: str | bytes | int, timeout_s: float = 1.0) -> Any:
        if self.broken:
            raise StoreDown("publish")
        self.push(str(command[2]).encode())

    def push(self, data: Any) -> None:
        for one in self.subscriptions:
            if not self.deaf and not one.closed:
                one.messages.put_nowait({"type": "message", "data": data})

    async def aclose(self) -> None:
        self.closed += 1

    def break_all(self) -> None:
        for one in self.subscriptions:
            one.messages.put_nowait(OSError("cut"))


class FakePubSub:
    def __init__(self, server: FakeServer) -> None:
        self.messages: asyncio.Queue[Any] = asyncio.Queue()
        self.closed = False

    async def subscribe(self, channel: str) -> None:
        self.messages.put_nowait({"type": "subscribe", "data": 1, "channel": channel})

    async def get_message(self, **how: Any) -> Any:
        message = await self.messages.get()
        if isinstance(message, Exception):
            raise message
        return message

    async def aclose(self) -> None:
        self.closed = True


class Scene:
    def __init__(self) -> None:
        self.server = FakeServer()
        self.subscribed = 0
        self.inbox = Inbox("p", self.server.connect, self._count)
        self.heard: list[str] = []
        self.inbox.handlers["D"] = [self.heard.append]
        self.supervisor = Supervisor()
        self.supervisor.own("inbox", self.inbox.run(self.server))

    def _count(self) -> None:
        self.subscribed += 1


def with_inbox(test: Callable[[Scene], Awaitable[None]]) -> Callable[[], Coroutine[Any, Any, None]]:
    """With an inbox that is read; its loop must have lived until the end."""

    async def run() -> None:
        scene = Scene()
        try:
            await settle()
            assert scene.subscribed == 1
            await test(scene)
            assert scene.supervisor.healthy
        finally:
            await scene.supervisor.close()
        assert all(one.closed for one in scene.server.subscriptions)

    run.__name__, run.__doc__ = "run", test.__doc__
    return run


@virtual
@with_inbox
async def test_what_is_pushed_is_heard_by_its_kind(scene: Scene) -> None:
    """In order, without its kind, with everything after the first bar."""
    for message in (b"D|k|5|7", b"W|k", b"D|", b"D"):
        scene.server.push(message)
    await settle()
    assert scene.heard == ["k|5|7", "", ""]


@virtual
@with_inbox
async def test_a_bad_message_or_handler_ends_nothing(scene: Scene) -> None:
    """Bytes that are no text, no bytes at all, and a listener with a bug: the next message is heard."""

    def fails(rest: str) -> None:
        raise RuntimeError(rest)

    scene.inbox.handlers["D"].insert(0, fails)
    for message in (b"\xff\xfe", None, 7, b"", b"D|1", b"D|2"):
        scene.server.push(message)
    await settle()
    assert scene.heard == ["1", "2"]
    assert scene.subscribed == 1


@virtual
@with_inbox
async def test_a_quiet_inbox_that_echoes_is_left_alone(scene: Scene) -> None:
    """An hour without a message is no evidence of anything."""
    await asyncio.sleep(3600)
    assert scene.subscribed == 1


@virtual
@with_inbox
async def test_a_deaf_subscription_is_replaced(scene: Scene) -> None:
    """It looks healthy and hears nothing: by the second echo there is another on another connection."""
    await asyncio.sleep(10 * ECHO_S + 0.1)
    scene.server.deaf = True
    await asyncio.sleep(2 * ECHO_S)
    assert scene.subscribed == 2
    scene.server.deaf = False
    await asyncio.sleep(3 * ECHO_S)
    after = scene.subscribed
    scene.server.push(b"D|again")
    await asyncio.sleep(10 * ECHO_S)
    assert (scene.heard, scene.subscribed) == (["again"], after)


@virtual
@with_inbox
async def test_a_broken_subscription_is_made_anew(scene: Scene) -> None:
    """A reset connection, then a server that takes no new one for a while: tried again until it does."""
    scene.server.broken = True
    scene.server.break_all()
    await asyncio.sleep(30.0)
    assert scene.subscribed == 1
    scene.server.broken = False
    await asyncio.sleep(1.0)
    assert scene.subscribed == 2
    scene.server.push(b"D|x")
    await settle()
    assert scene.heard == ["x"]


@virtual
@with_inbox
async def test_a_renewal_is_made_at_once_and_once(scene: Scene) -> None:
    """The data plane has evidence: a new subscription without waiting for an echo."""
    scene.inbox.renew()
    scene.inbox.renew()
    await settle()
    await asyncio.sleep(0.1)
    assert scene.subscribed == 2


@virtual
@with_inbox
async def test_a_link_that_is_down_is_not_taken_for_a_deaf_inbox(scene: Scene) -> None:
    """No echo was sent, so none is missed."""
    await asyncio.sleep(0.1)
    scene.server.up = False
    await asyncio.sleep(20 * ECHO_S)
    assert scene.subscribed == 1


@pytest.mark.anyio
async def test_a_real_subscription_that_has_gone_deaf_is_found_out() -> None:
    """Through a proxy that swallows pushes and nothing else: redis-py never notices, the echo does."""
    with standalone() as server, FaultProxy(server.port) as proxy:
        link = Link(RedisTarget(f"redis://127.0.0.1:{proxy.port}"), "a" * 16)
        ups: list[int] = []
        heard: list[str] = []
        link.on_up(lambda: ups.append(1))
        link.listen("D", heard.append)
        async with supervised() as supervisor:
            link.start(supervisor)
            await link.until_up()
            await eventually(lambda: ups)
            proxy.mode = Mode.DEAF
            before = len(ups)
            await eventually(lambda: len(ups) > before, within=15.0)
            assert await link.do("PUBLISH", "g:i:" + "a" * 16, "D|lost") == 1
            proxy.mode = Mode.PASS

            async def arrives() -> bool:
                await link.do("PUBLISH", "g:i:" + "a" * 16, "D|x")
                return "x" in heard

            await eventually(arrives, within=10.0)
        await link.close()
