"""What the pipeline stands on in the proofs: a model with timers and a store with time-outs, both played.

What they do wrong is written down as it happens: the plain model allows a request to fail with nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from cache.errors import StoreDown
from runtime.errors import GatewayError, UpstreamError
from tests.fakes.answer_store import MemoryAnswerStore
from tests.fakes.hook import FakeHook
from tests.fakes.model import FakeModel
from upstream.chunk import Chunk
from upstream.deadlines import Deadlines, Timeouts
from upstream.hook import HookAnswer
from upstream.permit import LlmPermit

#: All different, and short: the cache's probe runs twice a second, so an hour would be expensive.
TIMEOUTS = Timeouts(first_token=1.9, idle=1.3, total=6.7)
STORE_S = 0.08


@dataclass(frozen=True)
class Trouble:
    """A call of the model for `prompt`, or its preparation, failed."""

    at: float
    prompt: str
    code: str


class TimedModel(FakeModel):
    """Every prompt is answered by hand but planning; the timers are those of the real client."""

    def __init__(self) -> None:
        super().__init__()
        self.troubles: list[Trouble] = []
        self.told: set[int] = set()  #: the numbers of the calls that were told how to end
        self.completed: set[int] = set()  #: and of those that were told to end well

    @asynccontextmanager
    async def stream(
        self, permit: LlmPermit, body: Mapping[str, Any]
    ) -> AsyncIterator[AsyncIterator[list[Chunk]]]:
        loop = asyncio.get_running_loop()
        prompt = ("plan:" if permit.stage == "llm_calls" else "") + body["messages"][-1]["content"]
        try:
            async with super().stream(permit, body) as batches:
                yield timed(batches, Deadlines(loop.time(), TIMEOUTS))
        except UpstreamError as error:
            self.troubles.append(Trouble(loop.time(), prompt, error.code))
            raise


async def timed(batches: AsyncIterator[list[Chunk]], deadlines: Deadlines) -> AsyncIterator[list[Chunk]]:
    loop = asyncio.get_running_loop()
    while True:
        try:
            async with asyncio.timeout_at(deadlines.due()):
                batch = await anext(batches)
        except StopAsyncIteration:
            return
        except TimeoutError:
            error = deadlines.expired(deadlines.due())
            assert error is not None
            raise error from None
        deadlines.progress(loop.time(), any(chunk.content for chunk in batch))
        yield batch


class TimedHook(FakeHook):
    """Says when it was shut, and what it refused."""

    def __init__(self, troubles: list[Trouble]) -> None:
        super().__init__()
        self._troubles = troubles
        self.shut_since: float | None = None

    def shut(self, now: float) -> None:
        self.gate.clear()
        self.shut_since = now if self.shut_since is None else self.shut_since

    def open(self) -> None:
        self.gate.set()
        self.shut_since = None

    async def prepare(self, canonical: Mapping[str, Any]) -> HookAnswer:
        try:
            return await super().prepare(canonical)
        except GatewayError as error:
            prompt = canonical["messages"][-1]["content"]
            self._troubles.append(Trouble(asyncio.get_running_loop().time(), prompt, error.code))
            raise


class TimedStore(MemoryAnswerStore):
    """As the one on Redis: a server that hangs is given up after `STORE_S`."""

    async def put(self, key: str, data: bytes, ttl_s: float) -> bool:
        """Slower than any look-up that begins when it does."""
        await asyncio.sleep(2 * self.latency_s)
        return await super().put(key, data, ttl_s)

    async def _round_trip(self) -> None:
        try:
            async with asyncio.timeout(STORE_S):
                await super()._round_trip()
        except TimeoutError:
            raise StoreDown("a time-out") from None

    @property
    def fine(self) -> bool:
        return self.trouble is None and self.gate.is_set()

    def lose_everything(self) -> None:
        self._values.clear()
