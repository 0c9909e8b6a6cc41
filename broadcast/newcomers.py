"""Until when other processes may begin to follow what is made here, and what Redis knows of that."""

from __future__ import annotations

import asyncio
from typing import Any

from broadcast.broadcast import Broadcast
from cache.views import FOREVER_MS


class Newcomers:
    """State: the time that Redis has been told."""

    def __init__(self, broadcast: Broadcast[Any], *, private: bool) -> None:
        self._private = private  # nobody else asks for it
        self.told = float("inf")
        self._broadcast = broadcast

    @property
    def untold(self) -> bool:
        return self._broadcast.fresh_until != self.told and not self._private

    @property
    def ms(self) -> int:
        """From now on."""
        left_s = max(0.0, self._broadcast.fresh_until - asyncio.get_running_loop().time())
        return round(min(left_s * 1000, FOREVER_MS))
