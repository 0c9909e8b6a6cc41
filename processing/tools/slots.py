"""The limits of one tool, and how a try gets past them: a token, then the tool's slot, then one of all.

The tool's own slot comes first: who waits for a busy tool then holds none of those that all tools share, so
a busy tool never blocks another. The slot of all is the last thing that is waited for, and whoever has it
waits for no other: limit 1 everywhere cannot deadlock.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from admission import Admission, Stage
from admission.rate import RateStats, Token, TokenBucket
from admission.stage import StageStats
from processing.tools.threads import Job
from processing.tools.tool import Tool
from processing.twins import Company


@dataclass(frozen=True, slots=True)
class ToolStats:
    """One reading. `left_threads` run on after their time was up, and hold their slots."""

    name: str
    slots: StageStats
    rate: RateStats | None
    left_threads: int


class Lease:
    """The two slots of a try: given back when it is over and its thread, if it has one, is over too."""

    def __init__(self, limits: Limits, admissions: list[Admission]) -> None:
        self._limits = limits
        self._admissions = admissions
        self._job: Job[None] | None = None

    def hold_for(self, job: Job[None]) -> None:
        self._job = job

    def release(self) -> None:
        job = self._job
        if job is None or job.ended.done():
            self._withdraw()
            return
        self._limits.left_threads += 1
        job.ended.add_done_callback(self._ended)

    def _ended(self, _: asyncio.Future[None]) -> None:
        self._limits.left_threads -= 1
        self._withdraw()

    def _withdraw(self) -> None:
        for admission in reversed(self._admissions):
            admission.withdraw()


class Limits:
    """One tool's slots and rate, beside the slots that all tools share."""

    def __init__(self, tool: Tool, all_slots: Stage) -> None:
        options = tool.options
        self._tool = tool
        self._all_slots = all_slots
        self.slots = Stage(f"tool:{tool.name}", options.limit)
        self._bucket = None if options.rate is None else TokenBucket(options.rate, options.burst)
        self.left_threads = 0

    def stats(self) -> ToolStats:
        rate = None if self._bucket is None else self._bucket.stats()
        return ToolStats(self._tool.name, self.slots.stats(), rate, self.left_threads)

    @asynccontextmanager
    async def lease(self, turn: Company) -> AsyncIterator[Lease]:
        """Waits in `turn`'s place for all that a try needs. Nothing is held while a token is waited for."""
        if self._bucket is None:
            async with self._held(turn, None) as lease:
                yield lease
            return
        turn.admission = token = self._bucket.ask(turn)
        async with token, self._held(turn, token) as lease:
            yield lease

    @asynccontextmanager
    async def _held(self, turn: Company, token: Token | None) -> AsyncIterator[Lease]:
        admissions: list[Admission] = []
        lease = Lease(self, admissions)
        try:
            for stage in (self.slots, self._all_slots):
                turn.admission = admission = stage.admit(turn)
                admissions.append(admission)
                await admission.__aenter__()
            turn.admission = None
            if token is not None:
                token.spend()
            yield lease
        finally:
            turn.admission = None
            lease.release()
