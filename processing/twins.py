"""One run for all who want the same at the same time: a singleflight of running work. Not a cache.

    place = twins.join(key, turn, work)    # synchronous: begins the work, or joins it
    result = await place.result()

The work runs in a task of its own, so a member that is cancelled leaves it to the others. The last one that
leaves cancels it, and waits until it has cleaned up, or for `STUBBORN_S`: work that swallows its cancel keeps
what it holds, and nothing of those who left. A failure is shared like a result. Whoever asks after the end,
or after the last has left, begins anew.

The work has the best turn of its members: its order is the smallest of theirs, and its place in a queue
follows when somebody better joins, or when the turn of a member changes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from typing import Any, Final, Generic, Protocol, TypeVar

from admission import Admission
from admission.stage import Ticket
from runtime.errors import Draining

T = TypeVar("T")
Spawn = Callable[[str, Coroutine[Any, Any, None]], "asyncio.Task[None]"]
#: A flight that waited for ever for somebody's tool would keep its leaders permit for ever.
STUBBORN_S: Final = 5.0

log = logging.getLogger("refrain.twins")


class Waiting(Protocol):
    """What the work waits in: an `Admission`, or a `Token` of a rate."""

    @property
    def position(self) -> int: ...

    def reorder(self) -> None: ...


class Company:
    """The turn of the work: all of its members. Also what stands in a member's own `admission` meanwhile."""

    permit = None  #: what a flight looks at before it moves

    def __init__(self) -> None:
        self._admission: Any = None
        self._asked: list[Admission] = []
        self._waited: list[tuple[float, float]] = []
        self._members: list[Ticket] = []

    @property
    def admission(self) -> Any:
        """Where the work waits now, a `Waiting`; said by the work."""
        return self._admission

    @admission.setter
    def admission(self, place: Any) -> None:
        self._admission = place
        if isinstance(place, Admission):
            self._asked.append(place)

    def queued_s(self, since: float, now: float) -> float:
        """Seconds that the work has waited for permits from `since` on."""
        waited = [*self._waited, *(_span(each, now) for each in self._asked)]
        return sum(max(0.0, end - max(begin, since)) for begin, end in waited)

    def settle(self, now: float) -> None:
        """The work is over: what it stood in points back at us, and must not be a cycle."""
        self._waited += [_span(each, now) for each in self._asked]
        self._asked.clear()
        self._admission = None

    @property
    def order(self) -> float:
        """The best of its members; the last one there is, while the work is being cancelled."""
        return min((member.order for member in self._members), default=float("inf"))

    @property
    def position(self) -> int:
        waiting: Waiting | None = self.admission
        return 0 if waiting is None else waiting.position

    def told(self, position: int) -> int:
        return position

    def reorder(self) -> None:
        """The turn of a member has changed, or there is another member."""
        waiting: Waiting | None = self.admission
        if waiting is not None and self._members:
            waiting.reorder()

    def withdraw(self) -> None:
        """A member's flight is given up: its task is cancelled too, and leaves by that."""

    def enter(self, turn: Ticket) -> None:
        self._members.append(turn)
        if len(self._members) > 1:
            self.reorder()

    def leave(self, turn: Ticket) -> None:
        """Its turn goes with it: the others wait where they would have waited without it."""
        self._members.remove(turn)
        self.reorder()


def _span(admission: Admission, now: float) -> tuple[float, float]:
    """From when to when it has waited."""
    return admission.asked_at, now if admission.permit is None else admission.granted_at


class _Work(Generic[T]):
    """State: the members' futures; empty means that the work is over or that nobody wants it any more."""

    def __init__(self) -> None:
        self.company = Company()
        self.task: asyncio.Task[None]
        self._waiting: list[asyncio.Future[T]] = []
        self._result: T
        self._error: BaseException | None = Draining()

    async def drive(self, work: Callable[[Company], Awaitable[T]]) -> None:
        try:
            self._result = await work(self.company)
            self._error = None
        except Exception as error:
            if not self._waiting:
                raise  # in its clean-up: nobody else would ever see it
            self._error = error

    def end(self, _: asyncio.Task[None]) -> None:
        """Tell all who wait: also if the process is closing and the work was cancelled by nobody of them."""
        self.company.settle(asyncio.get_running_loop().time())
        for future in self._waiting:
            if future.done():
                continue
            if self._error is None:
                future.set_result(self._result)
            else:
                future.set_exception(self._error)

    def enter(self) -> asyncio.Future[T]:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        return future

    def leave(self, future: asyncio.Future[T]) -> bool:
        """Whether it was the last, and the work still runs."""
        self._waiting.remove(future)
        return not self._waiting and not self.task.done()


class Place(Generic[T]):
    """A member's place. `result` is awaited once, with nothing awaited between `join` and it."""

    __slots__ = ("_forget", "_future", "_turn", "_work", "joined")

    def __init__(self, work: _Work[T], turn: Ticket, forget: Callable[[], None], *, joined: bool) -> None:
        self._work = work
        self._future = work.enter()
        self._turn = turn
        self._forget = forget
        self.joined = joined  #: somebody else had begun it

    @property
    def company(self) -> Company:
        return self._work.company

    async def result(self) -> T:
        """What comes of it. Raises what the work has raised, and `Draining` if the process closes."""
        try:
            return await self._future
        finally:
            await self.leave()

    def shun(self) -> None:
        """It goes on for those who wait for it; nobody is sent to it any more."""
        self._forget()

    async def leave(self) -> None:
        """Give the place up instead of waiting in it."""
        work = self._work
        work.company.leave(self._turn)
        if work.leave(self._future):
            self._forget()  # a newcomer must not join what is being cancelled
            work.task.cancel()
            _, stubborn = await asyncio.wait({work.task}, timeout=STUBBORN_S)
            if stubborn:
                log.error("work goes on after its cancel", extra={"task": work.task.get_name()})


class Twins(Generic[T]):
    """The table of what runs now, by key. `spawn` is the Supervisor's; `name` is that of the tasks."""

    def __init__(self, spawn: Spawn, name: str) -> None:
        self._spawn = spawn
        self._name = name
        self._running: dict[Hashable, _Work[T]] = {}
        self.joins = 0  #: how many runs were saved

    def __len__(self) -> int:
        return len(self._running)

    def __repr__(self) -> str:
        return f"<Twins {self._name} [{len(self._running)} running, {self.joins} saved]>"

    def join(self, key: Hashable, turn: Ticket, work: Callable[[Company], Awaitable[T]]) -> Place[T]:
        """Begin `work` under `key`, or join what runs under it."""
        running = self._running.get(key)
        joined = running is not None
        if running is None:
            running = self._begin(key, turn, work)
        else:
            self.joins += 1
            running.company.enter(turn)
        found = running
        return Place(found, turn, lambda: self._forget(key, found), joined=joined)

    def _begin(self, key: Hashable, turn: Ticket, work: Callable[[Company], Awaitable[T]]) -> _Work[T]:
        begun: _Work[T] = _Work()
        begun.company.enter(turn)
        self._running[key] = begun
        begun.task = self._spawn(self._name, begun.drive(work))
        begun.task.add_done_callback(lambda _: self._forget(key, begun))
        begun.task.add_done_callback(begun.end)
        return begun

    def _forget(self, key: Hashable, work: _Work[T]) -> None:
        if self._running.get(key) is work:
            del self._running[key]
