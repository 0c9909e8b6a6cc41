"""How old an answer is, and whether that is young enough for who asks."""

from __future__ import annotations

import asyncio
import time

from broadcast.broadcast import Broadcast
from broadcast.lifecycle import Phase
from broadcast.log import Log
from broadcast.sealing import log_of
from cache.answer import SealedAnswer
from upstream.chunk import Chunk


def age_of(sealed: Broadcast[Chunk]) -> float:
    """Seconds since a flight that is still in the table was sealed."""
    return asyncio.get_running_loop().time() - sealed.entered_at[Phase.SEALED]


def ttl_of(sealed: Broadcast[Chunk]) -> float:
    return max(0.0, sealed.ttl_s - age_of(sealed))


def older(age_s: float, max_age_s: float | None) -> bool:
    return max_age_s is not None and age_s > max_age_s


def usable(answer: SealedAnswer | None, max_age_s: float | None) -> Log[Chunk] | None:
    """The log of an answer that is there, young enough for this caller, and readable."""
    if answer is None or older(answer.age(time.time()), max_age_s):
        return None
    return log_of(answer)
