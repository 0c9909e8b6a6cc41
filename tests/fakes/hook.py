"""A preparation hook that is played by the test."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from upstream.hook import HookAnswer


class FakeHook:
    """Returns the request as it came, while `gate` is set. `peak` is the most it was asked at once.

    `model`, `store` and `ttl_s` are what it decides; `error` is raised instead of an answer.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.inside = self.peak = 0
        self.model: str | None = None
        self.store = True
        self.ttl_s: float | None = None
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def prepare(self, canonical: Mapping[str, Any]) -> HookAnswer:
        self.asked.append(canonical["messages"][-1]["content"])
        self.inside += 1
        self.peak = max(self.peak, self.inside)
        try:
            await asyncio.sleep(0)
            await self.gate.wait()
            if self.error is not None:
                raise self.error
            return HookAnswer(
                messages=canonical["messages"], model=self.model, store=self.store, ttl_s=self.ttl_s
            )
        finally:
            self.inside -= 1
