"""Turns of the loop: everything that can run, runs, and no time passes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_ENOUGH = 200


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def settle() -> None:
    """Let everything run that needs no timer."""
    await turns(60)


async def until(state: Callable[[], object]) -> None:
    """Turn by turn until `state` holds; AssertionError if it does not come without a timer."""
    for _ in range(_ENOUGH):
        if state():
            return
        await asyncio.sleep(0)
    raise AssertionError("this state does not come by itself")
