"""The process's line to Redis for all that processes share: scripts, many in one pipeline, and an inbox.

Calls are sent by tasks of the process; a caller waits for a future of its own, so that no cancelled request
breaks a connection. Every script may be sent twice: all are idempotent.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from redis.exceptions import RedisError, ResponseError

from cache.errors import StoreDown, StoreError, StoreRefused
from cache.inbox import Inbox
from cache.patience import patience
from cache.scripts import Script
from cache.targets import RedisTarget, client_of, close, inbox_of
from cache.wire import Call, Wire, Word, not_now
from runtime.supervisor import Supervisor

log = logging.getLogger("refrain.link")

SENDERS: Final = 4
MAX_BATCH: Final = 128
MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
#: What a whole batch may take: the server answers, or it is in trouble.
BATCH_S: Final = 1.0
PROBE_S: Final = 0.5


class Link:
    """`proc` is whose inbox it reads, "" for none. `on_error(op)` is told of every call that failed.

    State: `up`, the calls that wait, and since when it has been down.
    """

    def __init__(
        self, target: RedisTarget, proc: str, *, on_error: Callable[[str], None] = lambda op: None
    ) -> None:
        self.proc = proc
        self._up = asyncio.Event()
        self._target = target
        self._client = client_of(target)
        self._probe_key = f"g:{{procs}}:probe:{proc}"
        self._wire = Wire(self._client, clustered=target.clustered)
        self._on_error = on_error
        self._waiting: deque[Call] = deque()
        self._filled = asyncio.Event()
        self._trouble = asyncio.Event()
        self._down_since: float | None = None
        self._ups: list[Callable[[], None]] = []
        self._downs: list[Callable[[], None]] = []
        self._inbox = Inbox(proc, self._subscriber, self._subscribed) if proc else None

    def __repr__(self) -> str:
        return f"<Link {self.proc} {'up' if self.up else 'down'}, {len(self._waiting)} waiting>"

    @property
    def up(self) -> bool:
        return self._up.is_set()

    async def until_up(self) -> None:
        """It may be down again by the time that the caller runs."""
        await self._up.wait()

    @property
    def down_for(self) -> float:
        if self.up or self._down_since is None:
            return 0.0
        return asyncio.get_running_loop().time() - self._down_since

    def start(self, supervisor: Supervisor) -> None:
        """Start its loops; never waits and never fails: without Redis it is down until there is one."""
        self._down_since = asyncio.get_running_loop().time()
        for number in range(SENDERS):
            supervisor.own(f"link:sender-{number}", self._send())
        if self._inbox is not None:
            supervisor.own("link:inbox", self._inbox.run(self))
        supervisor.own("link:probe", self._probe())

    # -- calls --------------------------------------------------------------------------------
    async def run(
        self, script: Script, keys: Sequence[str], args: Sequence[Word], timeout_s: float = 1.0
    ) -> Any:
        """One script. Raises StoreDown or StoreRefused, and nothing else but cancellation."""
        words: tuple[Word, ...] = ("EVALSHA", script.sha, len(keys), *keys, *args)
        return await self._ask(script.name, words, script, timeout_s)

    async def run_all(
        self, script: Script, calls: Sequence[tuple[Sequence[str], Sequence[Word]]]
    ) -> list[Any]:
        """As `run` for each (keys, args), all in one round trip or a few."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._outcome(script, keys, args)) for keys, args in calls]
        replies = [task.result() for task in tasks]
        for reply in replies:
            if isinstance(reply, StoreError):
                raise reply
        return replies

    async def _outcome(self, script: Script, keys: Sequence[str], args: Sequence[Word]) -> Any:
        """An error is a result: raised in a group it would cancel the others."""
        try:
            return await self.run(script, keys, args)
        except StoreError as error:
            return error

    async def do(self, *command: Word, timeout_s: float = 1.0) -> Any:
        """One command, as `run`."""
        return await self._ask(str(command[0]).lower(), command, None, timeout_s)

    async def _ask(self, op: str, words: tuple[Word, ...], script: Script | None, timeout_s: float) -> Any:
        if not self.up:
            raise StoreDown(f"{op}: no link")
        call = Call(op, words, script, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        self._filled.set()
        try:
            async with patience(timeout_s):
                return await call.reply
        except TimeoutError:
            self._on_error(op)
            raise StoreDown(f"{op}: timeout") from None

    # -- sending ------------------------------------------------------------------------------
    async def _send(self) -> None:
        while True:
            while not self._waiting:
                self._filled.clear()
                await self._filled.wait()
            batch = self._take()
            try:
                await self._exchange(batch)
            finally:
                for call in batch:
                    call.settle(StoreDown(f"{call.op}: no reply"))

    def _take(self) -> list[Call]:
        batch: list[Call] = []
        size = 0
        while self._waiting and len(batch) < MAX_BATCH and (size < MAX_BATCH_BYTES or not batch):
            call = self._waiting.popleft()
            # Nobody waits for it any more, and it has not been sent.
            if not call.reply.done():
                batch.append(call)
                size += call.size
        return batch

    async def _exchange(self, batch: list[Call]) -> None:
        """Send once, and on a broken connection once more on another."""
        for attempt in range(2):
            try:
                async with patience(BATCH_S):
                    left = [call for call in batch if not call.reply.done()]
                    for call, reply in zip(left, await self._wire.round_trip(left), strict=True):
                        self._settle(call, reply)
                return
            except TimeoutError:
                self._fail(batch, "timeout")
                return
            except Exception as error:
                # What talks there may not be Redis; and uvloop raises RuntimeError on a closing transport.
                if attempt:
                    self._fail(batch, type(error).__name__)

    def _settle(self, call: Call, reply: Any) -> None:
        if isinstance(reply, ResponseError) and not not_now(reply):
            self._on_error(call.op)
            # The type alone: a message can carry what was sent.
            call.settle(StoreRefused(f"{call.op}: {type(reply).__name__}"))
            log.warning("redis refused a script", extra={"op": call.op, "reason": str(reply)[:80]})
        elif isinstance(reply, Exception):
            self._on_error(call.op)
            call.settle(StoreDown(f"{call.op}: {type(reply).__name__}"))
            self._lose(type(reply).__name__)
        else:
            call.settle(reply)

    def _fail(self, batch: list[Call], reason: str) -> None:
        for call in batch:
            if not call.reply.done():
                self._on_error(call.op)
                call.settle(StoreDown(f"{call.op}: {reason}"))
        self._lose(reason)

    # -- up and down --------------------------------------------------------------------------
    def _lose(self, reason: str) -> None:
        if not self.up:
            return
        self._up.clear()
        self._down_since = asyncio.get_running_loop().time()
        log.warning("the link to redis is down", extra={"reason": reason})
        waiting, self._waiting = self._waiting, deque()
        for call in waiting:
            call.settle(StoreDown(f"{call.op}: no link"))
        self._trouble.set()
        _tell(self._downs)

    async def _probe(self) -> None:
        """While down, try; while up, wait for trouble, looking now and then."""
        while True:
            self._trouble.clear()
            if await self._answers():
                if self.up or self._inbox is None:
                    self._recovered()
                elif not self.up:
                    self._inbox.renew()  # `up` follows its subscription
            elif self.up:
                self._lose("probe")
            try:
                async with asyncio.timeout(PROBE_S * random.uniform(0.75, 1.25)):
                    await self._trouble.wait()
            except TimeoutError:
                continue

    async def _answers(self) -> bool:
        try:
            async with patience(BATCH_S):
                # A write: a replica, or a server that lost its master, would not take it.
                reply = await self._client.execute_command("SET", self._probe_key, "1", "PX", 5000)
            if reply is True:
                return True
        except Exception as error:
            log.debug("no answer", extra={"reason": type(error).__name__})
        await self._drop()
        return False

    async def _drop(self) -> None:
        """Connections to a server that has gone would each fail once more."""
        try:
            async with asyncio.timeout(0.5):
                if self._target.clustered:
                    await self._client.aclose()
                else:
                    await self._client.connection_pool.disconnect(inuse_connections=False)
        except (RedisError, OSError, RuntimeError, TimeoutError):
            return

    def _subscribed(self) -> None:
        """The inbox reads again: what was pushed meanwhile is lost."""
        self._recovered()
        _tell(self._ups)

    def _recovered(self) -> None:
        if self.up:
            return
        self._up.set()
        self._down_since = None
        log.info("the link to redis is up")
        if self._inbox is None:
            _tell(self._ups)

    def on_up(self, act: Callable[[], None]) -> None:
        self._ups.append(act)

    def on_down(self, act: Callable[[], None]) -> None:
        self._downs.append(act)

    # -- inbox --------------------------------------------------------------------------------
    def listen(self, kind: str, handler: Callable[[str], None]) -> None:
        """`handler(rest)` for every message `<kind>|<rest>`; synchronous, in the loop."""
        if self._inbox is not None:
            self._inbox.handlers.setdefault(kind, []).append(handler)

    def renew_inbox(self) -> None:
        if self._inbox is not None:
            self._inbox.renew()

    async def _subscriber(self) -> Any:
        return await inbox_of(self._target, self._client)

    async def close(self) -> None:
        """Close every connection. Its loops are the supervisor's to end."""
        self._up.clear()
        try:
            async with asyncio.timeout(1.0):
                await close(self._client)
        except (RedisError, OSError, RuntimeError, TimeoutError):
            return


def _tell(acts: list[Callable[[], None]]) -> None:
    for act in acts:
        try:
            act()
        except Exception:
            log.exception("a listener failed")
