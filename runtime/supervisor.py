"""The owner of every long-lived task: the only place that starts one.

Two kinds. A *task* belongs to one piece of work (a flight's preparation, its upstream stream, a
watch on a connection); its owner handles its outcome, so an exception that escapes is a bug, logged
with its name. A *loop* belongs to the process (a fast-lane worker, the pulse); when one ends by
itself the process can no longer do its job, so readiness turns red and `on_crash` ends it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

log = logging.getLogger("refrain.supervisor")


class Supervisor:
    """Starts, names, counts and ends tasks. `len(supervisor)` is how many run now."""

    def __init__(self, on_crash: Callable[[str], None] | None = None) -> None:
        self._on_crash = on_crash
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loops: set[asyncio.Task[Any]] = set()
        self._closing = False
        self.crashed: str | None = None

    def __len__(self) -> int:
        return len(self._tasks) + len(self._loops)

    def __repr__(self) -> str:
        names = sorted(task.get_name() for task in self._tasks | self._loops)
        return f"<Supervisor [{len(names)} running: {', '.join(names[:8])}]>"

    @property
    def healthy(self) -> bool:
        return self.crashed is None

    def spawn(self, name: str, coro: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run one piece of work; whoever asked for it handles its outcome."""
        task = asyncio.get_running_loop().create_task(coro, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def own(self, name: str, coro: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a loop that must live as long as the process."""
        task = asyncio.get_running_loop().create_task(coro, name=name)
        self._loops.add(task)
        task.add_done_callback(self._loop_done)
        return task

    async def until_none(self, *prefixes: str) -> None:
        """Until no spawned task runs whose name begins so."""
        while running := [task for task in self._tasks if task.get_name().startswith(prefixes)]:
            await asyncio.wait(running)

    async def close(self, timeout_s: float = 5.0) -> None:
        """Cancel what still runs and wait for it. Idempotent."""
        self._closing = True
        running = self._tasks | self._loops
        for task in running:
            task.cancel()
        if running:
            _, stuck = await asyncio.wait(running, timeout=timeout_s)
            for task in stuck:
                log.error("task did not end", extra={"task": task.get_name()})

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task failed", exc_info=error, extra={"task": task.get_name()})

    def _loop_done(self, task: asyncio.Task[Any]) -> None:
        self._loops.discard(task)
        if self._closing:
            return
        error = None if task.cancelled() else task.exception()
        self.crashed = task.get_name()
        log.critical("an owned loop ended", exc_info=error, extra={"task": task.get_name()})
        if self._on_crash is not None:
            self._on_crash(task.get_name())
