"""The parts of the pipeline that tell the tracer what they do; otherwise they are what they extend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from app.preparation_watch import PreparationWatch
from app.telemetry import names
from app.telemetry.calls import answered
from app.telemetry.flights import FlightSpans, preparing
from app.telemetry.harmless import harmless
from broadcast.broadcast import Broadcast
from broadcast.lifecycle import Phase
from broadcast.manager import BroadcastManager
from processing.preparer import Preparer, Prompt
from processing.tools.results import Status
from runtime.errors import UpstreamError
from upstream.chunk import Chunk
from upstream.client import ModelClient
from upstream.permit import LlmPermit

if TYPE_CHECKING:
    from app.telemetry.otel import Span


class TracedBroadcasts(BroadcastManager):
    """`meet` comes before the first request."""

    def meet(self, spans: FlightSpans) -> None:
        self._spans = spans
        self._preparer = TracedPreparer(self._preparer, spans)

    def begin(self, broadcast: Broadcast[Chunk]) -> None:
        with harmless():
            self._spans.begin(broadcast)
        super().begin(broadcast)

    def entered(self, broadcast: Broadcast[Any], before: Phase) -> None:
        with harmless():
            prompt = self.running.get(broadcast)
            self._spans.entered(broadcast, None if prompt is None else prompt.body.get("model"))
        super().entered(broadcast, before)

    def let_go(self, broadcast: Broadcast[Chunk], epoch: int) -> None:
        with harmless():
            self._spans.let_go(broadcast)
        super().let_go(broadcast, epoch)


class TracedPreparer(Preparer):
    """The same steps."""

    def __init__(self, plain: Preparer, spans: FlightSpans) -> None:
        self._plain = plain
        self._spans = spans

    def applies(self, body: Mapping[str, Any]) -> bool:
        return self._plain.applies(body)

    async def prepare(self, prompt: Prompt, on_step: Callable[[str], None]) -> Prompt:
        def told(step: str) -> None:
            with harmless():
                self._spans.step(prompt.turn, step)
            on_step(step)

        with self._spans.preparing(prompt.turn):
            return await self._plain.prepare(prompt, told)


class TracedWatch(PreparationWatch):
    """A span for each call of a tool and each step of a workflow, told in the tasks that they belong to."""

    def ended(self, tool: str, status: Status, ran_s: float, *, shared: bool) -> None:
        super().ended(tool, status, ran_s, shared=shared)
        if flight := preparing.get():
            with harmless():
                flight.tool(tool, str(status), ran_s, ok=status is Status.OK, shared=shared)

    def step_began(self, where: str) -> None:
        super().step_began(where)
        if flight := preparing.get():
            with harmless():
                flight.begin_part(where)

    def step_ended(self, where: str) -> None:
        super().step_ended(where)
        if flight := preparing.get():
            with harmless():
                flight.end_part()


class TracedClient(ModelClient):
    """Calls made during preparation have spans; that of an answer is its flight's."""

    @asynccontextmanager
    async def stream(
        self, permit: LlmPermit, body: Mapping[str, Any]
    ) -> AsyncIterator[AsyncIterator[list[Chunk]]]:
        flight = preparing.get()
        call = None
        if flight is not None:
            with harmless():
                call = _Call(flight.call(body.get("model")))
        if call is None:
            async with super().stream(permit, body) as batches:
                yield batches
            return
        error: str | None = None
        try:
            async with super().stream(permit, body) as batches:
                yield call.watched(batches)
        except UpstreamError as failure:
            error = failure.code
            raise
        finally:
            with harmless():
                call.end(error)


class _Call:
    """One call of the model that is not an answer's, and what came of it."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._began = asyncio.get_running_loop().time()
        self._first: float | None = None
        self._chunks: list[Chunk] = []

    async def watched(self, batches: AsyncIterator[list[Chunk]]) -> AsyncIterator[list[Chunk]]:
        async for batch in batches:
            if self._first is None and any(chunk.content for chunk in batch):
                self._first = asyncio.get_running_loop().time()
            self._chunks += batch
            yield batch

    def end(self, error: str | None) -> None:
        first = self._first
        self._span.set(answered(self._chunks, None if first is None else first - self._began))
        self._span.set({names.ERROR: error})
        if first is not None:
            self._span.event(names.FIRST_TOKEN, first)
        self._span.end(asyncio.get_running_loop().time(), failed=error is not None)
