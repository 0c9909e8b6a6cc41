"""Several processes on one Redis, all in this one: each with a line of its own, and what was pushed to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

from redis import Redis

from cache.flights import Asking, Led, SharedFlights
from cache.link import Link
from cache.names import flight_keys
from cache.targets import RedisTarget
from cache.views import View
from runtime.supervisor import Supervisor
from tests.fakes.eventually import eventually
from tests.fakes.real_redis import supervised
from tests.servers import RedisServer

_KINDS = "DRWIXKPS"
LONG_AGO = 1


class Proc:
    """One process: its line, its flights, and every message that it has heard, as `<kind>|<rest>`."""

    def __init__(self, url: str, name: str, *, lease_s: float, guard_s: float) -> None:
        self.name = name
        self.errors: list[str] = []
        self.link = Link(RedisTarget(url), name, on_error=self.errors.append)
        self.flights = SharedFlights(self.link, lease_s=lease_s, guard_s=guard_s)
        self.heard: list[str] = []
        self._settled = asyncio.Event()
        self.link.on_up(self._subscribed)
        for kind in _KINDS:
            self.link.listen(kind, lambda rest, kind=kind: self.heard.append(f"{kind}|{rest}"))  # type: ignore[misc]

    def _subscribed(self) -> None:
        """A probe may have asked for another subscription while this one was being made."""
        assert self.link._inbox is not None
        if not self.link._inbox._renew.is_set():
            self._settled.set()

    async def until_settled(self) -> None:
        """Up, and with the subscription that stays: what is pushed from now on arrives."""
        async with asyncio.timeout(10.0):
            await self._settled.wait()
            await self.link.until_up()

    async def hears(self, *messages: str) -> None:
        """Wait until all of them have come."""
        await eventually(lambda: set(messages) <= set(self.heard), within=5.0)

    async def has_heard_all(self) -> None:
        """What was pushed before this call has arrived when it returns."""
        self.link.listen("Z", lambda rest: self.heard.append("Z|"))
        await self.link.do("PUBLISH", f"g:i:{self.name}", "Z|")
        await eventually(lambda: "Z|" in self.heard, within=5.0)
        self.heard = [message for message in self.heard if message != "Z|"]

    async def leads(self, key: str) -> int:
        """Lead `key`; the epoch."""
        joined = await self.flights.join(asking(key), 1.0)
        assert isinstance(joined, Led), joined
        return joined.epoch

    async def follows(self, key: str, stake: str = "fi") -> View:
        joined = await self.flights.join(asking(key, stake=stake), 1.0)
        assert isinstance(joined, View), joined
        return joined


def asking(
    key: str,
    *,
    id: str = "",
    stake: str = "fi",
    read_cache: bool = True,
    fresh: bool = False,
    lead: bool = True,
    floor: int = 0,
    body: bytes = b"",
    hit: bytes = b"",
) -> Asking:
    return Asking(
        key, id, b"about", 60_000, stake,
        read_cache=read_cache, fresh=fresh, lead=lead, floor=floor, body=body, hit=hit,
        hit_ttl_ms=30_000 if hit else 0,
    )  # fmt: skip


def key_of(number: int) -> str:
    """A sharing key; its last byte names its partition."""
    return f"{number:064x}"


@asynccontextmanager
async def processes(
    server: RedisServer, count: int = 2, *, lease_s: float = 15.0, guard_s: float = 0.0
) -> AsyncIterator[list[Proc]]:
    """So many processes that are up, on an empty Redis that may be led in at once (unless `guard_s`)."""
    with server.client as client:
        client.flushall()
    names = [letter * 16 for letter in "abcdef"[:count]]
    procs = [Proc(server.url, name, lease_s=lease_s, guard_s=guard_s) for name in names]
    try:
        async with supervised() as supervisor:
            await up(supervisor, procs)
            yield procs
    finally:
        for proc in procs:
            await proc.link.close()


async def up(supervisor: Supervisor, procs: list[Proc]) -> None:
    for proc in procs:
        proc.link.start(supervisor)
    for proc in procs:
        await proc.until_settled()


def lapse(client: Redis, key: str) -> None:
    """The lease of whoever leads `key` has run out."""
    client.hset(flight_keys(key)[0], "l", LONG_AGO)


def forever(client: Redis) -> list[str]:
    """The names in Redis that never expire."""
    return sorted(name for name in client.scan_iter(count=1000) if client.ttl(name) < 0)


async def all_of(*calls: Awaitable[object]) -> list[object]:
    """What each of them gives, in order, all under way at once."""

    async def one(call: Awaitable[object]) -> object:
        return await call

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(call)) for call in calls]
    return [task.result() for task in tasks]
