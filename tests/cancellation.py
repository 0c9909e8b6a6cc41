"""Cancel at every await: run a coroutine again and again, and each time disturb it one suspension later.

    suspensions = await cancel_at_every_await(lambda: submit(chat), check=everything_is_given_back)

The n-th run is cancelled at its n-th suspension; the check then looks at the invariants. It ends with
the run that finishes before its turn comes. Use it under `@virtual`: a run that hangs fails at once.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Literal

Make = Callable[[], Coroutine[Any, Any, object]]
Check = Callable[[int], Awaitable[None] | None]
Moment = Literal["waiting", "granted"]


async def cancel_at_every_await(
    make: Make, check: Check, *, moment: Moment = "waiting", again: bool = False
) -> int:
    """Cancels one run at each of its suspensions, and returns how many there were.

    `moment` is when: while it is *waiting*, or when what it waits for has just been *granted* and it has
    not yet been told, which is where permits are lost. `again` cancels once more at the next
    suspension, in the middle of its clean-up. `check(n)` is called after each run, the last undisturbed one
    included. AssertionError if a cancelled run does not end as cancelled.
    """
    return await _at_every_await(make, check, _Cancel(moment), times=2 if again else 1)


async def raise_at_every_await(make: Make, check: Check, error: Callable[[], Exception]) -> int:
    """Lets the n-th suspension fail with `error()` instead: a peer that resets, a timer that fires.

    The run may handle the error or let it out; `check(n)` judges what is left. Returns how many
    suspensions there were.
    """
    return await _at_every_await(make, check, _Raise(error), times=1)


async def _at_every_await(make: Make, check: Check, act: _Cancel | _Raise, times: int) -> int:
    n = 0
    while True:
        n += 1
        probe = _Probe(make(), range(n, n + times), act)
        await _finish(probe, n)
        verdict = check(n)
        if inspect.isawaitable(verdict):
            await verdict
        if not probe.fired:
            return n - 1


async def _finish(probe: _Probe, n: int) -> None:
    """Runs it to its end and sees to it that this is the end that its disturbance calls for."""
    task = asyncio.get_running_loop().create_task(probe.drive(), name=f"disturbed at {n}")
    try:
        await asyncio.wait({task})
    except BaseException:
        task.cancel()
        raise
    error = None if task.cancelled() else task.exception()
    cancelled = probe.fired and isinstance(probe.act, _Cancel)
    if error is not None and (cancelled or not probe.fired):
        raise AssertionError(f"disturbed at suspension {n}, it ended with another error") from error
    if cancelled and not task.cancelled():
        raise AssertionError(
            f"cancelled at suspension {n}, it returned all the same: it swallowed the cancel"
        )


class _Cancel:
    """Cancels the running task, now that it suspends or once its wait is over."""

    def __init__(self, moment: Moment) -> None:
        self._moment = moment

    def disturb(self, awaited: Any) -> BaseException | None:
        task = asyncio.current_task()
        assert task is not None
        if self._moment == "granted" and awaited is not None:
            # Added before the task's own callback, so it runs before the task hears of the result.
            awaited.add_done_callback(lambda _: task.cancel())
        else:
            task.cancel()
        return None


class _Raise:
    """Has an error thrown into the coroutine in place of the suspension."""

    def __init__(self, error: Callable[[], Exception]) -> None:
        self._error = error

    def disturb(self, awaited: Any) -> BaseException | None:
        if awaited is not None:
            # The future was marked as awaited, but its turn at the task never comes.
            awaited._asyncio_future_blocking = False
        return self._error()


class _Probe:
    """Stands between a coroutine and its task, counts its suspensions and disturbs some of them."""

    def __init__(self, coro: Coroutine[Any, Any, object], due: range, act: _Cancel | _Raise) -> None:
        self._coro = coro
        self._due = due
        self.act = act
        self._count = 0
        self.fired = False

    async def drive(self) -> object:
        return await self

    def __await__(self) -> Generator[Any, Any, object]:
        step = self._go_on
        while True:
            try:
                awaited = step()
            except StopIteration as end:
                return end.value
            thrown = self._disturb(awaited)
            step = self._throw(thrown) if thrown else (yield from self._suspend(awaited))

    def _disturb(self, awaited: Any) -> BaseException | None:
        self._count += 1
        if self._count not in self._due:
            return None
        self.fired = True
        return self.act.disturb(awaited)

    def _suspend(self, awaited: Any) -> Generator[Any, Any, Callable[[], Any]]:
        try:
            yield awaited
        except BaseException as error:
            return self._throw(error)
        return self._go_on

    def _go_on(self) -> Any:
        return self._coro.send(None)

    def _throw(self, error: BaseException) -> Callable[[], Any]:
        return lambda: self._coro.throw(error)
