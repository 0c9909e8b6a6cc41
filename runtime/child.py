"""A child process that is respawned when it ends and that never outlives us, not even our kill -9.

Linux ends the child when the *thread* that started it ends, so the loop has to run in a thread that
lives as long as the process; the main one does.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runtime.supervisor import Supervisor

log = logging.getLogger("refrain.child")

READY_TIMEOUT_S = 5.0
TERM_TIMEOUT_S = 2.0
_POLL_S = 0.02
_LAUNCHER = Path(__file__).with_name("child_exec.py")


@dataclass(slots=True)
class BackOff:
    """How long to wait before the next start: 0.1 s, doubled up to 5 s, reset by a life of over 5 s.

    Being ready does not reset it: a child that gets ready and dies at once would be started for ever
    at full speed.
    """

    first_s: float = 0.1
    last_s: float = 5.0
    _next_s: float = 0.0

    def after(self, lived_s: float) -> float:
        """Seconds to wait after a life of `lived_s` seconds."""
        calm = lived_s > self.last_s or self._next_s == 0.0
        delay = self.first_s if calm else self._next_s
        self._next_s = min(delay * 2, self.last_s)
        return delay


class ChildProcess:
    """`argv` kept running from start to stop. `ready()` says whether it does its job by now.

    The child gets `env` and nothing of ours, the file descriptors in `pass_fds`, a session of its own
    (a Ctrl-C in the terminal is for us to handle) and no standard streams: a pipe that nobody reads
    would block it. With `talks` it has our standard output and error instead. `ready` must not raise nor
    hang. `before()` is called before each start and gives what this one gets beside `argv` and `pass_fds`;
    `on_end(status)` is called after each life, `on_restart()` each time a respawned child is ready.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        ready: Callable[[], Awaitable[bool]],
        *,
        pass_fds: Sequence[int] = (),
        on_restart: Callable[[], None] = lambda: None,
        on_end: Callable[[int | None], None] = lambda status: None,
        before: Callable[[], tuple[Sequence[str], Sequence[int]]] = lambda: ((), ()),
        talks: bool = False,
    ) -> None:
        self.name = name
        self.restarts = 0
        self._argv = tuple(argv)
        self._env = dict(env)
        self._is_ready = ready
        self._pass_fds = tuple(pass_fds)
        self._on_restart = on_restart
        self._on_end = on_end
        self._before = before
        self._streams = None if talks else DEVNULL
        self._wanted = asyncio.Event()
        self._ready = asyncio.Event()
        self._starting = asyncio.Lock()
        self._process: Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<ChildProcess {self.name} pid={self.pid} restarts={self.restarts}>"

    @property
    def pid(self) -> int | None:
        """The running child's process id, None while there is none."""
        return None if self._process is None else self._process.pid

    async def start(self, supervisor: Supervisor, timeout_s: float = READY_TIMEOUT_S) -> bool:
        """Have the child kept running; whether it was ready in time. It is kept running either way."""
        self._wanted.set()
        if self._keeper is None:
            self._keeper = supervisor.own(f"child:{self.name}", self._keep())
        try:
            async with asyncio.timeout(timeout_s):
                await self._ready.wait()
        except TimeoutError:
            return False
        return True

    def retire(self) -> None:
        """Start it no more; the one that runs goes on."""
        self._wanted.clear()

    def signal(self, number: int) -> None:
        """Send a signal to the child, if there is one."""
        process = self._process
        if process is not None and process.returncode is None:
            _signal(lambda: process.send_signal(number))

    async def stop(self, grace_s: float = TERM_TIMEOUT_S) -> None:
        """End the child, politely for `grace_s`, and start it no more. The loop then rests. Idempotent."""
        self._wanted.clear()
        # Under the lock no start is half done, and after it none begins.
        async with self._starting:
            process = self._process
        if process is not None:
            await _end(process, grace_s)

    async def _keep(self) -> None:
        loop, back_off, first = asyncio.get_running_loop(), BackOff(), True
        while True:
            await self._wanted.wait()
            began = loop.time()
            await self._live_once(first)
            first = False
            if self._wanted.is_set():
                self.restarts += 1
                await asyncio.sleep(back_off.after(loop.time() - began))

    async def _live_once(self, first: bool) -> None:
        process = await self._spawn()
        if process is None:
            return
        try:
            await self._until_ready(process)
            if self._ready.is_set() and not first:
                self._on_restart()
            status = await process.wait()
            if self._wanted.is_set():
                log.warning("child ended", extra={"child": self.name, "status": status})
        except BaseException:
            await _end(process)
            raise
        finally:
            self._ready.clear()
            self._process = None
            self._on_end(process.returncode)

    async def _spawn(self) -> Process | None:
        async with self._starting:
            if not self._wanted.is_set():
                return None
            more, fds = self._before()
            command = (sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid()), *self._argv, *more)
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *command,
                    env=self._env,
                    pass_fds=(*self._pass_fds, *fds),
                    stdin=DEVNULL,
                    stdout=self._streams,
                    stderr=self._streams,
                    start_new_session=True,
                )
            except OSError:
                log.exception("child cannot be started", extra={"child": self.name})
        return self._process

    async def _until_ready(self, process: Process) -> None:
        while process.returncode is None:
            if await self._is_ready():
                self._ready.set()
                return
            await asyncio.sleep(_POLL_S)


async def _end(process: Process, grace_s: float = TERM_TIMEOUT_S) -> None:
    """SIGTERM, and SIGKILL after `grace_s`; returns when the child is gone.

    A timer, not asyncio.timeout: it has to work in a task that is being cancelled, and there a timeout
    is told apart from the cancel only by later versions of Python 3.11.
    """
    if process.returncode is not None:
        return
    _signal(process.terminate)
    killer = asyncio.get_running_loop().call_later(grace_s, _signal, process.kill)
    try:
        await process.wait()
    finally:
        killer.cancel()


def _signal(send: Callable[[], None]) -> None:
    with suppress(ProcessLookupError):
        send()
