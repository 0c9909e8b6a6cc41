"""One broadcast of chunks with one subscriber, in the hands of a real `Answering` on a played model."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

from admission import Stage
from broadcast.answering import Answering
from broadcast.broadcast import Broadcast
from broadcast.claim import Claim, ClaimTimers
from broadcast.lifecycle import Signal
from broadcast.log import Log
from processing.preparer import Prompt
from tests.fakes.claims import RecordingDriver, Ticket
from tests.fakes.model import FakeModel
from upstream.chunk import Chunk
from upstream.client import ModelClient
from upstream.retry import RetryPolicy

SLOT_S = 120.0
MAX_LOG_BYTES = 10_000


class Answers:
    """Many broadcasts may share the parts here: a stage, a model and a retry budget."""

    def __init__(self, capacity: int = 1) -> None:
        self.model = FakeModel()
        self.stage = Stage("llm_streams", capacity)
        # Full jitter at its fullest: a back-off takes its whole ceiling, 0.25 s and then 0.5 s.
        self.retry = RetryPolicy(asyncio.get_running_loop().time, uniform=lambda low, high: high)
        self.answering = Answering(
            cast(ModelClient, self.model),
            self.stage,
            self.retry,
            slot_s=SLOT_S,
            runaway_bytes=4 * MAX_LOG_BYTES,
        )

    def queued(self, prompt: str = "q", order: float = 0.0) -> Answer:
        return Answer(self, prompt, order)


class Answer:
    """A broadcast that is ready to be answered. Its key is its prompt."""

    def __init__(self, parts: Answers, prompt: str, order: float) -> None:
        self._parts = parts
        self.driver = RecordingDriver()
        self.broadcast: Broadcast[Chunk] = Broadcast(prompt, Log(1, MAX_LOG_BYTES), self.driver)
        self.broadcast.order = order
        self.claim = Claim(
            Ticket(prompt, order), self.broadcast, ClaimTimers(), attached=True, on_end=lambda claim: None
        )
        self.broadcast.join(self.claim)
        self.broadcast.signal(Signal.GRANTED)
        self.broadcast.signal(Signal.PREPARED)
        self.body = {"messages": [{"role": "user", "content": prompt}]}
        self.prompts = {self.broadcast: Prompt(self.body, self.broadcast)}

    def native_twin(self) -> Claim:
        """Another request for it, which has not opened a stream yet."""
        ticket = Ticket("twin", 0.0)
        claim = Claim(ticket, self.broadcast, ClaimTimers(), attached=False, on_end=lambda claim: None)
        self.broadcast.join(claim)
        return claim

    @property
    def text(self) -> str:
        return "".join(chunk.text for chunk in self.broadcast.log.events)

    def run(self) -> Coroutine[Any, Any, None]:
        """What the manager does when the first subscriber is there: a place, and then the work."""
        self.broadcast.admission = self._parts.stage.admit(self.broadcast)
        return self._parts.answering.run(self.broadcast, self.prompts)
