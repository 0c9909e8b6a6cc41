"""Plays a script at its pace into a reply."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from upstream.simulator.holds import Holds, forever
from upstream.simulator.pacer import Pacer
from upstream.simulator.reply import Reply
from upstream.simulator.script import Delta, Ending, Script
from upstream.simulator.stats import Visit

# An unpaced answer is due as a whole; written in one go, a long one would hold up all other streams.
_BATCH = 256


class Player:
    """One answer on its way. `on_tokens` is told how many deltas go out with each write."""

    def __init__(
        self, script: Script, reply: Reply, arrived: float, on_tokens: Callable[[int], None]
    ) -> None:
        self._script = script
        self._reply = reply
        self._on_tokens = on_tokens
        self._pacer = Pacer(arrived + script.ttft, script.tps)

    async def play(self, holds: Holds, visit: Visit) -> None:
        """From the headers to the last byte. A stalled script never returns: cancel it."""
        script = self._script
        await self._reply.begin()
        if script.hold is not None:
            await self._paced(script.deltas[: script.hold_after])
            await holds.wait(script.hold)
            self._pacer.resume(asyncio.get_running_loop().time())
            await self._paced(script.deltas[script.hold_after :])
        else:
            await self._paced(script.deltas)
        if not script.deltas:
            await _until(self._pacer.next_due)  # an answer without tokens still takes the time to its first
        if script.ending is Ending.STALL:
            await forever()
        # Before the last bytes: a caller that has read them may ask again before this task runs on,
        # and would be counted as running beside a call that it saw end.
        visit.end(script.ending.outcome)
        await self._reply.end(script.ending)

    async def _paced(self, deltas: Sequence[Delta]) -> None:
        sent = 0
        while sent < len(deltas):
            await _until(self._pacer.next_due)
            due = self._pacer.take(asyncio.get_running_loop().time(), min(_BATCH, len(deltas) - sent))
            if due:
                self._on_tokens(due)
                await self._reply.deltas(deltas[sent : sent + due])
                sent += due


async def _until(due: float) -> None:
    # Also when it is past due, this lets the loop turn once: otherwise an unpaced stream would not
    # notice that its client has left.
    await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
