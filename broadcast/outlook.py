"""Whether another broadcast would be let in in time: a place to wait in, and a wait that it may take."""

from __future__ import annotations

from typing import Any

from admission import Stage
from broadcast.broadcast import Broadcast
from broadcast.lifecycle import Phase
from runtime.errors import GatewayError, QueueFull, QueueTimeout


class Outlook:
    """`max_pending`: broadcasts that may be prepared or wait for a slot at once; seconds of the two waits."""

    def __init__(
        self, leaders: Stage, llm_streams: Stage, *, max_pending: int, queue_s: float, slot_s: float
    ) -> None:
        self.pending = 0  #: broadcasts that are prepared, or wait for a slot
        self._leaders = leaders
        self._llm_streams = llm_streams
        self._max_pending = max_pending
        self._waits = ((leaders, queue_s), (llm_streams, slot_s))

    @property
    def hopeless(self) -> bool:
        """Would `check` refuse now, or the leaders stage? Then no key need be claimed."""
        return self._leaders.full or self._refusal() is not None

    def check(self) -> None:
        """Raises QueueFull or QueueTimeout, counted by the stage that it is about."""
        if (refusal := self._refusal()) is not None:
            stage, error = refusal
            stage.refuse(error.code)
            raise error

    def eta_s(self, broadcast: Broadcast[Any]) -> float | None:
        """Seconds until a waiting one is let in, by the measured holding times; None if that is unknown."""
        position = broadcast.position
        if not position:
            return None
        if broadcast.remote:
            return broadcast.shown.eta_s
        stage = self._leaders if broadcast.phase is Phase.WAITING else self._llm_streams
        return stage.predicted_wait(position - 1) if stage.measured else None

    def _refusal(self) -> tuple[Stage, GatewayError] | None:
        if self.pending >= self._max_pending:
            return self._llm_streams, QueueFull(
                "Too many answers are waiting for the model; try again later.",
                retry_after=self._llm_streams.predicted_wait(0),
            )
        for stage, limit in self._waits:
            wait = stage.predicted_wait()
            if wait > limit:
                return stage, QueueTimeout(
                    "The wait would be longer than this request may take; try again later.",
                    retry_after=wait - limit,
                )
        return None
