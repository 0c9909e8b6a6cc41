"""A virtual loop that is driven from outside, turn by turn: what a synchronous state machine needs."""

from __future__ import annotations

from asyncio import events
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from tests.virtual_time import VirtualLoop

T = TypeVar("T")

_ENOUGH = 2000


class SteppedLoop(VirtualLoop):
    """`turn` lets every task that can run do so once; `settle` goes on until none can without a timer."""

    def turn(self) -> None:
        self.call_soon(self.stop)
        self.run_forever()

    def settle(self) -> None:
        for _ in range(_ENOUGH):
            self.turn()
            if not self._busy:
                return
        raise AssertionError("something runs for ever without waiting for anything")

    def run(self, coro: Coroutine[Any, Any, T]) -> T:
        """To its end, in as much virtual time as it takes."""
        return self.run_until_complete(coro)

    @contextmanager
    def current(self) -> Iterator[None]:
        """For calls of synchronous code that asks for the running loop, between two turns."""
        events._set_running_loop(self)
        try:
            yield
        finally:
            events._set_running_loop(None)

    def advance(self, seconds: float) -> None:
        """So much time passes; every timer within it fires in its turn."""
        self.call_later(seconds, self.stop)
        self.run_forever()
        self.settle()

    @property
    def _busy(self) -> bool:
        """Is anything ready to run now? Only the loop knows, and it has no public word for it."""
        ready: Any = vars(self)["_ready"]
        return bool(ready)
