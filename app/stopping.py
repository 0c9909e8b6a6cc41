"""SIGTERM and Ctrl-C, from the first moment of the process to its last.

What a signal means changes as the process goes on: while it starts, unwind; while it serves, drain;
while it cleans up, nothing. The handlers are Python's own and stay on when the loop is closed, so that
a signal that is sent once more never cuts the clean-up short.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """`asked` tells whether any signal has come yet."""

    def __init__(self) -> None:
        self.asked = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._means: Callable[[int], None] | None = None

    def install(self) -> None:
        """Take the signals over. Main thread only; there is no way back, and none is wanted."""
        for number in SIGNALS:
            signal.signal(number, self._handle)

    def ignore(self) -> None:
        """All is done. The interpreter's own end would put the default back, but leaves this alone."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def means(self, act: Callable[[int], None] | None) -> None:
        """From now on a signal calls `act(number)` in the running loop; None: it changes nothing."""
        self._loop = asyncio.get_running_loop()
        self._means = act

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deliver, number)

    def _deliver(self, number: int) -> None:
        if self._means is not None:
            self._means(number)
