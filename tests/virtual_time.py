"""Virtual time: an event loop whose clock jumps to the next timer as soon as nothing else can run.

    @virtual
    async def test_an_hour_passes_at_once(): ...

An hour's wait takes a millisecond, and a hang fails at once: when every task waits and no timer is
set, nothing can ever happen any more, so the loop raises `Stuck` and says what waits where. A test
also fails if it leaves a task behind or if a task died with an error that nobody looked at.

Only what happens inside the process can be virtual: real sockets and threads take real time, so this
loop refuses them (`NotVirtual`) rather than let the clock run ahead of them.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, ParamSpec, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
P = ParamSpec("P")

# A loop that ticks for ever keeps a stuck test alive: after so much virtual time it counts as stuck.
HORIZON_S = 7 * 86400.0
# Turns of the loop that tasks get to finish in at the end of a test, if they need nothing else.
_LAST_TURNS = 10


class Stuck(AssertionError):
    """Every task waits for something that will never happen."""


class Leaked(AssertionError):
    """The test returned, but tasks it started still run, or failed unseen."""


class NotVirtual(AssertionError):
    """The code under test wanted a real socket or a thread."""


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits: where a selector would sleep for a timer, this one moves the loop's clock."""

    def __init__(self, jump: Callable[[float | None], None]) -> None:
        super().__init__()
        self._jump = jump

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        if self.get_map():  # the first one is the loop's own wake-up pipe
            raise NotVirtual("a real socket takes real time: use a fake, or a real loop")
        return super().register(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout != 0:
            self._jump(timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop on virtual time. `time()` starts at 1000 s: no real loop's clock starts at 0."""

    def __init__(self, horizon_s: float = HORIZON_S) -> None:
        self._now = 1000.0
        self._end = self._now + horizon_s
        self.unseen: list[dict[str, Any]] = []
        super().__init__(_JumpingSelector(self._jump))
        self.set_exception_handler(lambda _, context: self.unseen.append(context))

    def time(self) -> float:
        return self._now

    def _jump(self, timeout: float | None) -> None:
        if timeout is None:
            raise Stuck(f"no timer is set, and every task waits:{_waiting(self)}")
        self._now += timeout
        if self._now > self._end:
            raise Stuck(f"virtual time passed its horizon, and tasks still wait:{_waiting(self)}")

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        raise NotVirtual("a thread takes real time: use a fake, or a real loop")


def run(main: Coroutine[Any, Any, T], *, horizon_s: float = HORIZON_S) -> T:
    """Runs `main` to its end on a fresh virtual loop and returns its result.

    Raises Stuck if it can never end, Leaked if it leaves a task or an unseen error behind.
    """
    loop = VirtualLoop(horizon_s)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        result = runner.run(_to_the_end(main))
    # After the runner: a task's unseen error is reported when the task is thrown away.
    if loop.unseen:
        raise Leaked(f"errors nobody saw: {[_brief(context) for context in loop.unseen]}")
    return result


def virtual(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Makes an async test a plain one that runs on a virtual loop; fixtures and parameters still work."""

    @functools.wraps(test)
    def on_virtual_time(*args: P.args, **kwargs: P.kwargs) -> T:
        return run(test(*args, **kwargs))

    return on_virtual_time


async def _to_the_end(main: Coroutine[Any, Any, T]) -> T:
    result = await main
    for _ in range(_LAST_TURNS):
        await asyncio.sleep(0)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:
        raise Leaked(f"tasks still run after the test:{_listed(left)}")
    return result


def _waiting(loop: asyncio.AbstractEventLoop) -> str:
    return _listed(asyncio.all_tasks(loop))


def _listed(tasks: set[asyncio.Task[Any]]) -> str:
    return "".join(sorted(f"\n  {task.get_name()} at {_place(task)}" for task in tasks))


def _place(task: asyncio.Task[Any]) -> str:
    """The innermost `await` of a suspended task."""
    inner: Any = task.get_coro()
    frame = None
    while inner is not None:
        frame = getattr(inner, "cr_frame", None) or getattr(inner, "gi_frame", None) or frame
        inner = getattr(inner, "cr_await", None) or getattr(inner, "gi_yieldfrom", None)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "its start"


def _brief(context: dict[str, Any]) -> str:
    return f"{context['message']}: {context.get('exception')!r}"
