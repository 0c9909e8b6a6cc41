"""What a test asks of the simulator itself: /config, /stats, /reset, /release, /healthz."""

from __future__ import annotations

from dataclasses import asdict

from upstream.simulator.behaviour import BehaviourError
from upstream.simulator.exchange import Exchange
from upstream.simulator.refusal import Refusal
from upstream.simulator.state import State


class Control:
    """One method per path. Nothing here counts as a call of the model."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def config(self, exchange: Exchange) -> None:
        """Change what the query names, and answer all effective values."""
        try:
            self._state.change(exchange.query())
        except BehaviourError as error:
            raise Refusal(400, str(error), code="invalid_setting") from None
        await exchange.reply(asdict(self._state.behaviour))

    async def stats(self, exchange: Exchange) -> None:
        await exchange.reply(self._state.stats.snapshot() | {"holding": self._state.holds.waiting()})

    async def reset(self, exchange: Exchange) -> None:
        self._state.stats.reset()
        await self.stats(exchange)

    async def release(self, exchange: Exchange) -> None:
        name = exchange.query().get("name")
        if not name:
            raise Refusal(400, "Which one? Give name=…", code="missing_name")
        await exchange.reply({"name": name, "released": self._state.holds.release(name)})

    async def healthz(self, exchange: Exchange) -> None:
        await exchange.reply({"status": "ok"})
