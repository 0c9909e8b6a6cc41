"""The spans of a flight: what is done once for all who share an answer, stage by stage.

State: the flights made here that are traced, each with the span of the stage it is in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from app.telemetry import names
from app.telemetry.calls import Called, answered
from broadcast.broadcast import Broadcast
from broadcast.lifecycle import RUNNING, Phase
from chatbot.ticket import Ticket
from runtime.errors import GatewayError
from upstream.chunk import Chunk

if TYPE_CHECKING:
    from app.telemetry.otel import Span, Spans

#: The flight that is being prepared by this task, and by what it calls.
preparing: Final[ContextVar[_Flight | None]] = ContextVar("preparing", default=None)

#: The steps of a workflow that this task is in, the innermost last.
_steps: Final[ContextVar[tuple[Span, ...]]] = ContextVar("steps", default=())

_STAGES: Final = {
    Phase.WAITING: names.WAIT_LEADERS,
    Phase.PREPARING: names.PREPARE,
    Phase.IDLE: names.WAIT_SUBSCRIBER,
    Phase.QUEUED: names.WAIT_LLM_STREAMS,
}


class FlightSpans:
    """`called` describes the upstream."""

    def __init__(self, spans: Spans, called: Called) -> None:
        self._spans = spans
        self._called = called
        self._flights: dict[Broadcast[Chunk], _Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def begin(self, broadcast: Broadcast[Chunk]) -> None:
        """It is made here from now on, for the request that leads it; or again, after its maker's death."""
        before = broadcast.traceparent
        span = self._spans.begin(
            names.FLIGHT,
            _now(),
            parent=_leader_of(broadcast),
            links={before: names.LINK_BEFORE} if before else None,
        )
        broadcast.traceparent = span.traceparent
        if span.recording:
            flight = self._flights[broadcast] = _Flight(self._spans, self._called, span)
            flight.enter(Phase.WAITING)

    def entered(self, broadcast: Broadcast[Chunk], model: object) -> None:
        """Its phase has changed. `model`: the one that is asked."""
        flight = self._flights.get(broadcast)
        if flight is None:
            return
        if broadcast.phase in RUNNING:
            flight.move(broadcast, model)
        else:
            del self._flights[broadcast]
            error = broadcast.end.error if broadcast.end is not None else None
            flight.end(broadcast, broadcast.phase.value, error)

    def let_go(self, broadcast: Broadcast[Chunk]) -> None:
        """Another process makes it."""
        flight = self._flights.pop(broadcast, None)
        if flight is not None:
            flight.end(broadcast, names.HANDED_OVER, None)
        broadcast.traceparent = ""

    def step(self, broadcast: object, name: str) -> None:
        """Of preparation."""
        flight = self._flights.get(broadcast) if isinstance(broadcast, Broadcast) else None
        if flight is not None:
            flight.begin_step(name)

    @contextmanager
    def preparing(self, broadcast: object) -> Iterator[None]:
        """Around preparation: calls of the model made inside belong to this flight."""
        token = preparing.set(self._flights.get(broadcast) if isinstance(broadcast, Broadcast) else None)
        try:
            yield
        finally:
            preparing.reset(token)


class _Flight:
    """One flight's span, the stage's in it, and the step's in that."""

    def __init__(self, spans: Spans, called: Called, span: Span) -> None:
        self._spans = spans
        self._called = called
        self._span = span
        self._stage = span
        self._phase = Phase.WAITING
        self._since = 0.0
        self._step: Span | None = None
        self._calls = 0

    def enter(self, phase: Phase, model: object = None) -> None:
        self._phase, self._since = phase, _now()
        if phase is Phase.LIVE:
            self._calls += 1
            self._stage = self.call(model, self._span)
            self._stage.set({names.ATTEMPT: self._calls})
        else:
            self._stage = self._spans.begin(_STAGES[phase], self._since, parent=self._span)

    def move(self, broadcast: Broadcast[Chunk], model: object) -> None:
        """From one stage to the next. A call that is over and not the last has failed."""
        self.leave(broadcast, broadcast.setback if self._phase is Phase.LIVE else None)
        self.enter(broadcast.phase, model)

    def leave(self, broadcast: Broadcast[Chunk], error: GatewayError | None) -> None:
        """The stage it is in is over; `error` ended it."""
        self._end_step(failed=error is not None)
        if self._phase is Phase.LIVE:
            self._tell_answer(broadcast)
        if error is not None:
            self._stage.set({names.ERROR: error.code})
        self._stage.end(_now(), failed=error is not None)

    def end(self, broadcast: Broadcast[Chunk], outcome: str, error: GatewayError | None) -> None:
        self.leave(broadcast, error)
        self._span.set(
            {
                names.OUTCOME: outcome,
                names.EVENTS: len(broadcast.log),
                names.ERROR: None if error is None else error.code,
            }
        )
        self._span.end(_now(), failed=error is not None)

    def begin_step(self, name: str) -> None:
        self._end_step()
        self._step = self._spans.begin(names.STEP.format(step=name), _now(), parent=self._stage)

    def begin_part(self, name: str) -> None:
        """A step of a workflow, which may have others beside it: it is this task's until `end_part`."""
        span = self._spans.begin(names.STEP.format(step=name), _now(), parent=self._here)
        _steps.set((*_steps.get(), span))

    def end_part(self) -> None:
        *outer, span = _steps.get()
        _steps.set(tuple(outer))
        span.end(_now(), failed=False)

    def tool(self, tool: str, outcome: str, ran_s: float, *, ok: bool, shared: bool) -> None:
        """A call of a tool has ended now."""
        now = _now()
        span = self._spans.begin(
            names.TOOL.format(tool=tool),
            now - ran_s,
            parent=self._here,
            attributes={
                names.OPERATION: names.OPERATION_TOOL,
                names.TOOL_NAME: tool,
                names.OUTCOME: outcome,
                names.ROLE: names.ROLE_SHARED if shared else names.ROLE_BEGAN,
            },
        )
        span.end(now, failed=not ok)

    @property
    def _here(self) -> Span:
        """What runs in this task: a step of a workflow, or of preparation."""
        inside = _steps.get()
        return inside[-1] if inside else self._step or self._stage

    def call(self, model: object, parent: Span | None = None) -> Span:
        """A call of the model: the answer's, or one made by the step of preparation that runs."""
        name, attributes = self._called.as_span(model)
        return self._spans.begin(
            name, _now(), kind="client", parent=parent or self._here, attributes=attributes
        )

    def _tell_answer(self, broadcast: Broadcast[Chunk]) -> None:
        """Of a call that is made again nothing is in the log."""
        first = broadcast.first_delta_at
        self._stage.set(answered(broadcast.log.events, None if first is None else first - self._since))
        if first is not None:
            self._stage.event(names.FIRST_TOKEN, first)

    def _end_step(self, *, failed: bool = False) -> None:
        step, self._step = self._step, None
        if step is not None:
            step.end(_now(), failed=failed)


def _leader_of(broadcast: Broadcast[Any]) -> str:
    """The request that it is made for; "" if there is none that is traced."""
    tickets = (claim.ticket for claim in broadcast.claims.values())
    return next((ticket.traceparent for ticket in tickets if isinstance(ticket, Ticket)), "")


def _now() -> float:
    return asyncio.get_running_loop().time()
