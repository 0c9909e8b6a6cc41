"""Waiting for a state outside this process: a server that comes back, a process that is gone."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable

_POLL_S = 0.01


async def eventually(predicate: Callable[[], object | Awaitable[object]], within: float = 10.0) -> None:
    """Return as soon as `predicate` holds; AssertionError if it does not within so many seconds."""
    try:
        async with asyncio.timeout(within):
            while not await _value(predicate):
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise AssertionError(
            f"still not true after {within} s: {inspect.getsource(predicate).strip()}"
        ) from None


async def _value(predicate: Callable[[], object | Awaitable[object]]) -> object:
    value = predicate()
    return await value if inspect.isawaitable(value) else value
