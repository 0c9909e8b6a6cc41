"""The event loop that everything runs in: uvloop's, where there is one."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Coroutine
from typing import Any, Final

log = logging.getLogger("refrain.app")

#: How long a task that is cancelled at the very end may take to end.
STUBBORN_S: Final = 3.0


def run_loop(main: Coroutine[Any, Any, int]) -> int:
    """Run until `main` returns; its result."""
    try:
        import uvloop
    except ImportError:  # not on every platform
        return asyncio.run(_to_the_end(main))
    return uvloop.run(_to_the_end(main))


async def _to_the_end(main: Coroutine[Any, Any, int]) -> int:
    """Code of the operator's may swallow its cancel, and a loop waits for such a task for ever."""
    status = await main
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        _, left = await asyncio.wait(left, timeout=STUBBORN_S)
    if left:
        log.error("ended without the tasks that would not end", extra={"tasks": len(left)})
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)
    return status
