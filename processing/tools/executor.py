"""One call of a tool, from its turn to its result: each try has slots of its own, a back-off has none."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from processing.caller import Caller
from processing.tools.events import Events
from processing.tools.results import Result, Status
from processing.tools.running import one_try
from processing.tools.slots import Limits
from processing.tools.threads import Threads
from processing.tools.tool import Arguments, Tool
from processing.twins import Company

BASE_S: Final = 0.25
CAP_S: Final = 8.0


@dataclass(frozen=True, slots=True)
class Executor:
    """Runs one tool. `uniform` is the jitter of its back-offs (full jitter, as in `upstream.retry`)."""

    tool: Tool
    limits: Limits
    events: Events
    threads: Threads
    uniform: Callable[[float, float], float] = random.uniform

    def values(self, arguments: Arguments, caller: Caller) -> Mapping[str, Any]:
        """What the function is called with."""
        if self.tool.caller_as is None:
            return arguments.values
        return {**arguments.values, self.tool.caller_as: caller}

    async def run(self, values: Mapping[str, Any], turn: Company) -> Result:
        """Raises a cancellation alone. A failure is tried again, a timeout is not: it had its time."""
        tries, waited_s = 0, 0.0
        while True:
            result = await self._try(values, turn, tries + 1)
            tries += 1
            waited_s += result.waited_s
            if result.status is not Status.FAILED or result.final or tries > self.tool.options.retries:
                return replace(result, tries=tries, waited_s=waited_s)
            await asyncio.sleep(self.uniform(0.0, min(CAP_S, BASE_S * 2.0 ** (tries - 1))))

    async def _try(self, values: Mapping[str, Any], turn: Company, number: int) -> Result:
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        async with self.limits.lease(turn) as lease:
            waited_s = loop.time() - asked_at
            self.events.started(self.tool.name, number, waited_s)
            result = await one_try(self.tool, values, self.threads, lease.hold_for)
        return replace(result, waited_s=waited_s)
