"""Trouble on purpose, and whom it excuses: the model fails in bursts, Redis dies and comes back empty."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from typing import Final

from bench.soaking.scene import Scene

#: Refusals and ends that small limits bring about at any time.
SHED: Final = frozenset({"queue_full", "queue_timeout", "slot_timeout"})
MODEL: Final = frozenset(
    {
        "upstream_error",
        "upstream_truncated",
        "upstream_unreachable",
        "upstream_bad_response",
        "stream_idle_timeout",
        "first_token_timeout",
        "prepare_failed",
    }
)
#: What several workers may say while Redis is away or has just forgotten all: documented in docs/failure.md.
REDIS: Final = frozenset(
    {"not_found", "state_unavailable", "worker_lost", "leader_lost", "subscribe_timeout"}
)
#: Seconds for which trouble excuses: the longest timer; the time in which gateways become one again.
MODEL_ECHO_S: Final = 12.0
REDIS_ECHO_S: Final = 15.0
TROUBLE: Final = ("fail_rate", "truncate_rate", "stall_rate", "prepare_fail_rate")


class Weather:
    """`bad_model`, `bad_redis`: until when each excuses who was there; infinity while it lasts."""

    def __init__(self, scene: Scene, chance: random.Random, burst_s: float) -> None:
        self._scene = scene
        self._burst_s = burst_s
        self._chance = chance
        self._bad_model = self._bad_redis = -math.inf
        self.bursts = self.restarts = 0

    def excuses(self, code: str, since: float) -> str | None:
        """What excuses this code in a request that began at `since`; None if nothing does."""
        if code in SHED:
            return "limits"
        if code in MODEL and self._bad_model >= since:
            return "model"
        if code in REDIS and self.redis_was_bad(since):
            return "redis"
        return None

    def redis_was_bad(self, since: float) -> bool:
        return self._scene.workers > 1 and self._bad_redis >= since

    async def storms(self, every_s: float) -> None:
        await self._each(every_s, self._burst)

    async def restarts_of_redis(self, every_s: float) -> None:
        await self._each(every_s, self._restart)

    async def _each(self, every_s: float, happen: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(every_s * self._chance.uniform(0.7, 1.3))
            await happen()

    async def _burst(self) -> None:
        loop, share = asyncio.get_running_loop(), self._chance.choice((0.1, 0.3, 0.6))
        rates = {name: share / 4 if name == "stall_rate" else share for name in TROUBLE}
        self._bad_model = math.inf
        try:
            await asyncio.to_thread(self._scene.simulator.config, **rates)
            await asyncio.sleep(self._burst_s)
        finally:
            self._scene.simulator.config(**dict.fromkeys(TROUBLE, 0))
            self._bad_model = loop.time() + MODEL_ECHO_S
        self.bursts += 1

    async def _restart(self) -> None:
        loop = asyncio.get_running_loop()
        self._bad_redis = math.inf
        try:
            await self._scene.restart_redis(self._chance.uniform(0.0, 3.0))
        finally:
            self._bad_redis = loop.time() + REDIS_ECHO_S
        self.restarts += 1
