"""Clients that are programs of their own: scripts under Node or Python that tell what they see, by lines."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
#: No client may talk to anybody but the gateway.
QUIET = {
    "LANGCHAIN_TRACING_V2": "false",
    "LANGSMITH_TRACING": "false",
    "LITELLM_TELEMETRY": "False",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}
WITHIN_S = 30.0


class Script:
    """A running script; each line that it tells is one JSON object."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def line(self) -> dict[str, Any]:
        """The next line; AssertionError if the script ends, or says nothing for long."""
        assert self._process.stdout is not None
        async with asyncio.timeout(WITHIN_S):
            line = await self._process.stdout.readline()
        assert line, f"the script ended with status {await self._process.wait()}"
        told: dict[str, Any] = json.loads(line)
        return told


def environment() -> dict[str, str]:
    """Nothing of the caller's but what programs need to be found and run."""
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/nonexistent"), **QUIET}


@asynccontextmanager
async def running(name: str, **settings: object) -> AsyncIterator[Script]:
    """`running("eventsource.mjs", url=…)`: the script gets its settings as one JSON argument."""
    interpreter = shutil.which("node") if name.endswith(".mjs") else sys.executable
    assert interpreter is not None, "node is missing: scripts/clients-setup"
    folder = HERE / ("js" if name.endswith(".mjs") else "py")
    process = await asyncio.create_subprocess_exec(
        interpreter, str(folder / name), json.dumps(settings), stdout=PIPE, stdin=DEVNULL, env=environment()
    )
    try:
        yield Script(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def outcome(name: str, **settings: object) -> dict[str, Any]:
    """The first line of a script that does one thing."""
    async with running(name, **settings) as script:
        return await script.line()
