"""How a counted call is served: its end is recorded exactly once, whichever way it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any

from upstream.simulator.exchange import Exchange
from upstream.simulator.stats import Outcome, Visit

_TURNS = 4


async def serve_visit(exchange: Exchange, visit: Visit, work: Coroutine[Any, Any, None]) -> None:
    """Run `work`, which ends the visit before its last bytes; if it does not get there, it was aborted."""
    abort = partial(visit.end, Outcome.ABORTED)
    try:
        await exchange.while_connected(work, on_left=abort)
    finally:
        abort()


async def let_leavers_go() -> None:
    """Give clients that have left already the turns of the loop it takes to notice. Await before counting.

    A caller with one slot closes one connection and then asks on another. The loop hears both in one
    poll, but the close takes some turns more to reach its call: counted at once, the new call would
    overlap the old one, and the peak would accuse the caller of what it never did.
    """
    for _ in range(_TURNS):
        await asyncio.sleep(0)
