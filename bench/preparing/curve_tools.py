"""The tool of `bench/preparation.py`: takes a fifth of a second, and notes when it ran."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

from processing.tools import tool

TAKES_S = 0.2
NOTES = Path(os.environ.get("BENCH_TOOL_NOTES", os.devnull))


async def wait(n: int) -> str:
    """Waits."""
    began = time.monotonic()
    await asyncio.sleep(TAKES_S)
    note(n, began)
    return str(n)


def note(n: int, began: float) -> None:
    with NOTES.open("a") as notes:
        notes.write(json.dumps([n, began, time.monotonic()]) + "\n")


TOOLS = [tool(wait, cacheable=True, limit=10)]
