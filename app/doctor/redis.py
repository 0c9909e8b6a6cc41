"""The Redis that `REDIS_URL` names: reached, asked for everything that a gateway asks, judged."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from hashlib import sha1
from secrets import token_hex
from typing import Any, Final

from app.doctor import server
from app.doctor.finding import LOOK_S, Finding, failed, ok
from app.doctor.reach import explained, resolve
from app.doctor.redis_words import (
    KINDS,
    clock,
    hosts,
    kind_of,
    latency,
    processes,
    transport,
    trouble,
    unreached,
    unseen,
    worst_of_each,
)
from app.doctor.rights import Rights, judged, kinds_of
from cache.errors import StoreError
from cache.inbox import ECHO_S
from cache.names import PROCESSES
from cache.redis import RedisConnection
from cache.targets import RedisTarget, close, inbox_of
from config.urls import masked

_PINGS: Final = 5
_ENTRIES: Final = 2 << 20


async def examine(url: str) -> list[Finding]:
    """Everything about it; ends with the first look that it does not answer."""
    visit = Visit(url)
    try:
        await visit.run()
    finally:
        await visit.connection.close()
    return visit.findings


class Visit:
    """One examination. `findings` are what it has found so far."""

    def __init__(self, url: str) -> None:
        self.shown = masked(url)
        self.findings: list[Finding] = []
        self.target = RedisTarget(url)
        self.connection = RedisConnection(self.target)
        self._infos: dict[str, Any] = {}
        self._tag = token_hex(8)
        self._wrong_kind = False

    async def run(self) -> None:
        self.findings.append(transport(self.target.url))
        if not await self._reached():
            return
        looks: tuple[tuple[str, Callable[[Any], Awaitable[None]]], ...] = (
            ("redis.latency", self._latency),
            ("redis.kind", self._info),
            ("redis.commands", self._rights),
            ("redis.scripts", self._scripts),
            ("redis.pubsub", self._channel),
            ("redis.clock", self._clock),
            ("redis.processes", self._alive),
        )
        for check, look in looks:
            try:
                await self.connection.use(check, LOOK_S, look)
            except StoreError as error:
                self.findings.append(trouble(check, error, self.shown))
                if "StoreDown" in kinds_of(error):
                    return
            if self._wrong_kind:
                return

    async def _reached(self) -> bool:
        """The name first, in a way that can be given up; then a PING by the way that a gateway goes."""
        try:
            async with asyncio.timeout(LOOK_S):
                for host, port in hosts(self.target.url):
                    await resolve(host, port)
            await self.connection.use("ping", LOOK_S, lambda client: client.execute_command("PING"))
        except TimeoutError:
            says = f"The name in {self.shown} was not looked up within {LOOK_S:g} s."
            self.findings.append(failed("redis.reach", says, "Look at the name server of this machine."))
        except (OSError, ValueError) as error:
            self.findings.append(unreached("redis.reach", explained(error, self.shown)))
        except StoreError as error:
            self.findings.append(trouble("redis.reach", error, self.shown))
        else:
            self.findings.append(ok("redis.reach", f"{self.shown} answers."))
            return True
        return False

    # -- looks --------------------------------------------------------------------------------
    async def _latency(self, client: Any) -> None:
        times = []
        for _ in range(_PINGS):
            begun = time.perf_counter()
            await client.execute_command("PING")
            times.append(1000 * (time.perf_counter() - begun))
        self.findings.append(latency(statistics.median(times)))

    async def _info(self, client: Any) -> None:
        kind = kind_of(self.target.url)
        try:
            self._infos = _by_node(
                await client.execute_command("INFO", **({"target_nodes": "all"} if kind == "cluster" else {}))
            )
        except Exception as error:
            if "NoPermissionError" not in kinds_of(error):
                raise
            self.findings += [ok("redis.kind", KINDS[kind]), *unseen()]
            return
        wrong = server.mode_contradicts(next(iter(self._infos.values())), kind)
        self._wrong_kind = wrong is not None
        self.findings.append(wrong or ok("redis.kind", KINDS[kind]))
        if self._wrong_kind:
            return  # what it says besides is of no use
        self.findings += worst_of_each(
            [finding for info in self._infos.values() for finding in server.read(info, _ENTRIES)]
        )

    async def _rights(self, client: Any) -> None:
        clustered = self.target.clustered
        key, channel = f"g:{{doctor}}:{self._tag}", f"g:i:doctor-{self._tag}"
        rights = await Rights().try_all(client, key, channel, clustered=clustered)
        if "set" not in rights.refused + rights.unknown and not rights.keys_refused:
            self.findings.append(server.role(self._infos, read_only=rights.read_only))
        self.findings.append(judged(rights))

    async def _scripts(self, client: Any) -> None:
        """As the gateway does it: by its body once, which also loads it, then by its digest."""
        key = f"g:{{doctor}}:{self._tag}"
        body = f"return '{self._tag}'"
        digest = sha1(body.encode(), usedforsecurity=False).hexdigest()
        replies = [
            await client.execute_command("EVAL", body, 1, key),
            await client.execute_command("EVALSHA", digest, 1, key),
        ]
        if replies == [self._tag.encode()] * 2:
            self.findings.append(ok("redis.scripts", "A script was run, and found again by its digest."))
        else:
            says = "A script did not give what it returns: what answers there is not a Redis."
            self.findings.append(failed("redis.scripts", says, "Use Redis or Valkey itself."))

    async def _channel(self, client: Any) -> None:
        inbox = await inbox_of(self.target, client)
        pubsub = inbox.pubsub()
        try:
            self.findings.append(await self._round_trip(client, pubsub, f"g:i:doctor-{self._tag}"))
        finally:
            await pubsub.aclose()
            await close(inbox)

    async def _round_trip(self, client: Any, pubsub: Any, channel: str) -> Finding:
        await pubsub.subscribe(channel)
        await pubsub.get_message(timeout=None)
        begun = time.perf_counter()
        await client.execute_command("PUBLISH", channel, self._tag)
        try:
            async with asyncio.timeout(ECHO_S):
                message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=None)
        except TimeoutError:
            says = f"A message to a channel of our own did not come back within {ECHO_S:g} s."
            return failed("redis.pubsub", says, "Does something between filter its pushes?")
        took = 1000 * (time.perf_counter() - begun)
        await pubsub.unsubscribe(channel)
        if message is None or message["data"] != self._tag.encode():
            return failed("redis.pubsub", "A message came back changed.", "Use Redis or Valkey itself.")
        return ok("redis.pubsub", f"A message went through a channel in {took:.1f} ms.")

    async def _clock(self, client: Any) -> None:
        before = time.time()
        seconds, micros = await client.execute_command("TIME")
        there, here = int(seconds) + int(micros) / 1e6, (before + time.time()) / 2
        self.findings.append(clock(there - here))

    async def _alive(self, client: Any) -> None:
        seconds, _ = await client.execute_command("TIME")
        alive = await client.execute_command("ZRANGEBYSCORE", PROCESSES, int(seconds) * 1000, "+inf")
        self.findings.append(processes(len(alive)))


def _by_node(reply: Any) -> dict[str, Any]:
    """INFO of one server is a mapping of its fields, of several a mapping of such."""
    return reply if reply and all(isinstance(each, dict) for each in reply.values()) else {"": reply}
