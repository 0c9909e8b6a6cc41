"""What is known of one request, while it runs and, for a native one, for a while after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Any

from broadcast.broadcast import Broadcast
from broadcast.claim import Claim
from broadcast.lifecycle import Phase
from broadcast.outcome import Outcome
from chatbot.ticket import Ticket
from processing.account import account_of
from runtime.errors import LeaderLost, WorkerLost
from runtime.logs import request_id
from upstream.chunk import Chunk


class Role(StrEnum):
    LEADER = auto()
    FOLLOWER = auto()
    CACHED = auto()


class CacheResult(StrEnum):
    HIT = auto()
    MISS = auto()
    COALESCED = auto()
    BYPASS = auto()


#: phase → (status, stage). A record's status only ever moves down this table.
_SHOWN: dict[Phase, tuple[str, str]] = {
    Phase.WAITING: ("queued", "leaders"),
    Phase.PREPARING: ("preparing", "preparing"),
    Phase.IDLE: ("ready", "subscriber"),
    Phase.QUEUED: ("waiting_slot", "llm_streams"),
    Phase.LIVE: ("streaming", "streaming"),
}
_WALK = list(_SHOWN.values())
_STATUSES = [status for status, _ in _WALK]
_STEPS = {phase: step for step, phase in enumerate(_SHOWN)}


#: What `timings` has, each in milliseconds or unknown.
TIMINGS = ("queue_ms", "prepare_ms", "slot_wait_ms", "ttft_ms", "total_ms")
_LOST = (LeaderLost.code, WorkerLost.code)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a request is: what `status` events and `GET /chat/{id}` show. `eta_ms` may be unknown."""

    status: str
    stage: str
    queue_position: int | None
    eta_ms: int | None


class Record:
    """One request. `native`: kept after its end. `hit_ttl_s`: a cached answer's remaining seconds."""

    def __init__(
        self,
        ticket: Ticket,
        role: Role,
        cache: CacheResult,
        *,
        native: bool,
        route: str,
        hit_ttl_s: float | None = None,
        guest: bool = False,
    ) -> None:
        self.ticket = ticket
        self.role = role
        self.cache = cache
        self.native = native
        self.route = route
        self.hit_ttl_s = hit_ttl_s
        self.guest = guest  #: admitted by another process, which counts it and notes its end
        self.known = False  #: to other processes
        self.owner = ""  #: of a guest: the process that admitted it
        self.told: dict[str, int | None] | None = None  #: a guest's timings, once it has ended
        self.claim: Claim
        self.request_id = request_id.get()
        self.lookup_ms: float | None = None
        self.overruled = False  #: somebody has been told another end than the one it has here
        self.on_end: Callable[[], None] | None = None  #: of a conversation, which waits for it
        self._shown_status = 0
        self._shown_position: tuple[str, int] | None = None
        self.events_at_end: int | None = None  #: of the log, if it ended by itself
        self._own: list[Chunk] | None = None  # the events it ended with, should the log restart

    def __repr__(self) -> str:
        return f"<Record {self.ticket.id} [{self.role}, {self.progress().status}]>"

    @property
    def broadcast(self) -> Broadcast[Chunk]:
        return self.claim.broadcast

    @property
    def alone(self) -> bool:
        """Did it end by itself (cancelled, expired), and not with its broadcast?"""
        return self.claim.ended is not None and not self.claim.ended.shared

    @property
    def lost(self) -> bool:
        """Did it end with the process that had it, its text in part or as a whole?"""
        ended = self.claim.ended
        if ended is None:
            return False
        left = len(self.chunks_of_all())
        return (ended.error is not None and ended.error.code in _LOST) or left < (self.events_at_end or 0)

    def progress(self, eta_s: float | None = None) -> Progress:
        """The status never goes back and the position never rises within a stage, whatever happens below."""
        ended = self.claim.ended
        if ended is not None:
            return Progress(ended.outcome.value, "ended", None, None)
        # Of a guest whose flight has ended, and whose end has not been told yet: as far as it has been.
        status, stage = _SHOWN.get(self.broadcast.phase, _WALK[self._reached()])
        if stage == "preparing" and self.broadcast.step is not None:
            stage = f"preparing:{self.broadcast.step}"
        self._shown_status = max(self._shown_status, _STATUSES.index(status), self._reached())
        position = self._position(stage)
        eta_ms = None if position is None or eta_s is None else round(eta_s * 1000)
        return Progress(_STATUSES[self._shown_status], stage, position, eta_ms)

    def _reached(self) -> int:
        """How far it has been since it arrived: another process may have shown that."""
        since = self.ticket.arrived_at
        entered = self.broadcast.entered_at
        return max((_STEPS.get(phase, 0) for phase, at in entered.items() if at >= since), default=0)

    def _position(self, stage: str) -> int | None:
        position = self.broadcast.place
        if not position:
            return None
        if self._shown_position is not None and self._shown_position[0] == stage:
            position = min(position, self._shown_position[1])
        self._shown_position = (stage, position)
        return position

    def freeze(self) -> None:
        """It has ended: what its broadcast produces for others from now on is not its text."""
        if self.on_end is not None:
            self.on_end()
        if self.alone:
            log = self.broadcast.log
            self._own = log.events
            self.events_at_end = len(log) if self.events_at_end is None else self.events_at_end

    def chunks(self) -> list[Chunk]:
        """What has been produced so far."""
        return (self.broadcast.log.events if self._own is None else self._own)[: self.events_at_end]

    def chunks_of_all(self) -> list[Chunk]:
        """The log it ended with or is part of, what is not its own included."""
        return self.broadcast.log.events if self._own is None else self._own

    def timings(self) -> dict[str, int | None]:
        """Milliseconds this request spent in each stage; null where it has not been."""
        if self.told is not None:
            return self.told
        entered, joined = self.broadcast.entered_at, self.claim.joined_at
        ended_at = self.claim.ended.at if self.claim.ended else None

        def between(start: Phase, stop: float | None) -> int | None:
            begun = entered.get(start)
            if begun is None:
                return None
            # Of a guest: what its mirror has not seen end is not known here.
            until = stop if stop is not None or self.guest else ended_at
            if until is None:
                return None
            return max(0, round((until - max(begun, joined)) * 1000))

        first = self.broadcast.first_delta_at
        arrived = self.ticket.arrived_at
        if self.role is Role.CACHED:
            zero = max(0, round((joined - arrived) * 1000))
            return {
                "queue_ms": None,
                "prepare_ms": None,
                "slot_wait_ms": None,
                "ttft_ms": zero,
                "total_ms": zero,
            }
        return {
            "queue_ms": between(Phase.WAITING, entered.get(Phase.PREPARING)),
            "prepare_ms": between(Phase.PREPARING, entered.get(Phase.IDLE)),
            "slot_wait_ms": between(Phase.QUEUED, entered.get(Phase.LIVE)),
            "ttft_ms": None if first is None else max(0, round((max(first, joined) - arrived) * 1000)),
            "total_ms": None if ended_at is None else max(0, round((ended_at - arrived) * 1000)),
        }

    def snapshot(self, eta_s: float | None = None) -> dict[str, Any]:
        """The body of `GET /chat/{id}`."""
        progress = self.progress(eta_s)
        chunks = self.chunks()
        completed = self.claim.ended is not None and self.claim.ended.outcome is Outcome.COMPLETED
        return {
            "id": self.ticket.id,
            "status": progress.status,
            "role": self.role.value,
            "stage": progress.stage,
            "queue_position": progress.queue_position,
            "eta_ms": progress.eta_ms,
            "created_at": round(self.ticket.created_at, 3),
            "timings": self.timings(),
            "finish_reason": finish_reason(chunks) if completed else None,
            "usage": usage(chunks),
            "preparation": account_of(chunks) or None,
            "text": "".join([chunk.text for chunk in chunks]),
        }


def finish_reason(chunks: list[Chunk]) -> str | None:
    return next((chunk.finish_reason for chunk in reversed(chunks) if chunk.finish_reason), None)


def usage(chunks: list[Chunk]) -> dict[str, Any] | None:
    return next((chunk.usage for chunk in reversed(chunks) if chunk.usage), None)
