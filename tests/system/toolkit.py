"""Tools that gateways under test load: each writes down what happens to it, and waits at doors of its test.

`place` is the folder of a `tests.system.workplace.Workplace`, `door` the name of a file in it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from processing.caller import Caller
from processing.tools import tool
from processing.tools.results import ToolFailed

_POLL_S = 0.005


def write(place: str, line: str) -> None:
    """One line of the log, at once: many may write at the same time, also from several processes."""
    with (Path(place) / "log").open("a", buffering=1) as log:
        log.write(f"{line}\n")


@contextmanager
def noted(place: str, name: str) -> Iterator[None]:
    """`+name` at the begin, `-name` at the end, however it ends: the clean-up of a tool."""
    write(place, f"+{name}")
    try:
        yield
    finally:
        write(place, f"-{name}")


async def opened(place: str, door: str) -> None:
    """Until the test has opened it; a tool without a door does not wait."""
    while door and not (Path(place) / door).exists():
        await asyncio.sleep(_POLL_S)


async def look(place: str, name: str, door: str = "") -> str:
    """Looks for what has that name."""
    with noted(place, name):
        await opened(place, door)
    return f"{name} was found"


def block(place: str, name: str, door: str = "") -> str:
    """Looks for it, and blocks its thread meanwhile."""
    with noted(place, name):
        while door and not (Path(place) / door).exists():
            # Fifty threads must not take the loop's time by asking. This is a thread of a tool: it may block.
            time.sleep(4 * _POLL_S)  # noqa: TID251
    return f"{name} was dug out"


async def begin(place: str, name: str, door: str = "never") -> AsyncIterator[str]:
    """Says one half, then waits."""
    with noted(place, name):
        yield f"half of {name}"
        await opened(place, door)
        yield f" and all of {name}"


async def sing(place: str, name: str, door: str = "", fails: int = 9) -> AsyncIterator[str]:
    """Sings three lines, if it does not fail before: waits at `door` behind the first one."""
    with noted(place, name):
        for line in range(3):
            if line == fails:
                raise ToolFailed("hoarse")
            yield f"{name} {line}\n"
            await opened(place, door)


async def refuse(place: str, name: str) -> str:
    """Fails, and says why."""
    with noted(place, name):
        raise ToolFailed("out of order")


async def ignore(place: str, name: str) -> str:
    """Goes on whatever it is told."""
    with noted(place, name):
        while True:
            with suppress(asyncio.CancelledError):
                await opened(place, "never")


async def mail(place: str, name: str, caller: Caller, door: str = "") -> str:
    """Reads the caller's own letter."""
    with noted(place, name):
        await opened(place, door)
        return f"a letter for {caller.tenant} and {caller.user}"


TOOLS = [
    tool(look, cacheable=True, limit=64),
    tool(look, name="narrow", cacheable=True, limit=4),
    tool(look, name="single", cacheable=True, limit=1, timeout_s=1),
    tool(look, name="brief", cacheable=True, limit=64, timeout_s=0.3),
    tool(look, name="rated", cacheable=True, limit=64, rate=4, burst=3),
    tool(look, name="change", stateful=True),
    tool(look, name="lasting", time_bound=1000),
    tool(look, name="fleeting", time_bound=0.2),
    tool(look, name="now", time_bound=0),
    tool(block, cacheable=True, limit=64),
    tool(begin, cacheable=True, limit=64, timeout_s=0.3),
    tool(begin, name="slowly", cacheable=True, limit=64),
    tool(refuse, cacheable=True),
    tool(sing, cacheable=True, limit=4, direct_stream=True),
]
#: None of them takes longer than a short preparation may.
SHORT = [
    tool(look, cacheable=True, limit=64, timeout_s=0.9),
    tool(look, name="single", cacheable=True, limit=1, timeout_s=0.9),
    tool(ignore, cacheable=True, timeout_s=0.9),
]
PRIVATE = [tool(look, cacheable=True), tool(mail, user_bound=True)]
#: What they say is not true for long, or has been done.
PASSING = [
    tool(look, name="now", time_bound=0),
    tool(look, name="fleeting", time_bound=0.2),
    tool(look, name="lasting", time_bound=1000),
    tool(look, name="change", stateful=True),
    tool(sing, name="tick", time_bound=0, direct_stream=True),
]
