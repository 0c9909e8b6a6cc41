"""Blocking functions run here, in threads that serve one after the other: nobody's loop waits.

There are as many as have ever been needed at once, which the slots bound. Nothing queues for a thread:
whoever has a slot has one, so no timer runs for work that has not begun.

A thread cannot be cancelled. So one that has run out of time is left alone, with its slots, until it ends.
The threads are daemons: a function that never returns must not keep the process from stopping, which it
would in a `ThreadPoolExecutor`, whose threads are joined at exit.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class Job(Generic[T]):
    """`ended` is done when the function is over, whoever waits. It is handed an event: nobody waits any
    more.
    """

    def __init__(self, function: Callable[[threading.Event], T], on_end: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._left = threading.Event()
        self._function = function
        self._on_end = on_end
        self._context = contextvars.copy_context()
        self._result: T
        self._error: BaseException | None = None

    async def result(self) -> T:
        """What it returns or raises. A cancel leaves it running."""
        try:
            await asyncio.shield(self.ended)
        except asyncio.CancelledError:
            self._left.set()
            raise
        if self._error is not None:
            raise self._error
        return self._result

    def run(self) -> None:
        """In the thread. Raises nothing."""
        try:
            self._result = self._context.run(self._function, self._left)
        except BaseException as error:
            self._error = error
        try:
            self._loop.call_soon_threadsafe(self._end)
        except RuntimeError:
            return  # the loop is closed: the process stops, and nobody waits

    def _end(self) -> None:
        self._on_end()
        if not self.ended.done():
            self.ended.set_result(None)


class Threads:
    """State: `_idle`, how many threads wait for work; it is changed in the loop alone."""

    def __init__(self) -> None:
        self._work: SimpleQueue[Job[None] | None] = SimpleQueue()
        self._idle = 0
        self.started = 0

    def begin(self, function: Callable[[threading.Event], None]) -> Job[None]:
        """In an idle thread, or in a new one."""
        job: Job[None] = Job(function, self._ended)
        if self._idle:
            self._idle -= 1
            self._work.put(job)
        else:
            self.started += 1
            name = f"tool-{self.started}"
            threading.Thread(target=self._serve, args=(job,), name=name, daemon=True).start()
        return job

    def close(self) -> None:
        """Idle threads end. One that is busy ends with its process. Idempotent."""
        for _ in range(self._idle):
            self._work.put(None)
        self._idle = 0

    def _serve(self, job: Job[None] | None) -> None:
        while job is not None:
            job.run()
            del job  # what it holds must not live until the next one comes
            job = self._work.get()

    def _ended(self) -> None:
        self._idle += 1
