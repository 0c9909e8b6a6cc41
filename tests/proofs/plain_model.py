"""The plain model: which end each request may have, which role, and which text. Small, and right by reading.

It knows what the clients did and what went wrong around the pipeline, and nothing of how that works.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from broadcast.outcome import End, Outcome
from tests.fakes.pipeline import Limits
from tests.proofs.clients import Asked
from tests.proofs.environment import TimedHook, Trouble

#: Rounding of the loop's clock.
EPS = 1e-6
STATUSES = ("queued", "preparing", "ready", "waiting_slot", "streaming")
ENDS = tuple(outcome.value for outcome in Outcome if outcome is not Outcome.SHED)


@dataclass
class Around:
    """What happened around the pipeline so far."""

    limits: Limits
    troubles: list[Trouble]
    hook: TimedHook

    def longest_wait(self) -> float:
        """Until its stream is opened at the latest, somebody who has not come yet is waited for."""
        return self.limits.queue_s + self.limits.prepare_s + self.limits.subscribe_s


def interested(asked: Asked, now: float, around: Around) -> bool:
    """May the gateway still work for it? (For one that has not come, the latest moment is taken.)"""
    if not asked.running:
        return False
    if asked.connections:
        return True
    if not asked.wish.native:
        return False
    if asked.dropped_at is not None:
        return now < asked.dropped_at + around.limits.grace_s + EPS
    return now < asked.admitted_at + around.longest_wait() + EPS


def allowed(asked: Asked, end: End, around: Around) -> bool:
    """May this request have ended so, and then?"""
    return _MAY[end.outcome](asked, end, around)


def _completed(asked: Asked, end: End, around: Around) -> bool:
    return end.error is None and end.reason is None  # its text is judged by I1


def _failed(asked: Asked, end: End, around: Around) -> bool:
    """With the error of a call for its own prompt, or of its preparation, that happened in its time."""
    if end.error is None:
        return False
    if end.error.code == "prepare_timeout":
        shut = around.hook.shut_since
        return shut is not None and end.at >= shut + around.limits.prepare_s - EPS
    prompts = (asked.prompt, f"plan:{asked.prompt}")
    return any(
        trouble.code == end.error.code
        and trouble.prompt in prompts
        and asked.ticket.arrived_at <= trouble.at <= end.at + EPS
        for trouble in around.troubles
    )


def _cancelled(asked: Asked, end: End, around: Around) -> bool:
    """By its client, by its connection, or because it came and went."""
    if end.reason == "cancelled by the client":
        return asked.cancelled_at is not None
    if end.reason == "disconnected":
        return asked.dropped_at is not None and (not asked.wish.native or asked.record is None)
    if end.reason == "abandoned" and asked.wish.native and asked.dropped_at is not None:
        return asked.connections == 0 and end.at >= asked.dropped_at + around.limits.grace_s - EPS
    return False


def _expired(asked: Asked, end: End, around: Around) -> bool:
    """Not before its timer: each starts when the request joins, or later."""
    waited = end.at - asked.ticket.arrived_at + EPS
    limits = around.limits
    code = "" if end.error is None else end.error.code
    if code == "subscribe_timeout":
        return asked.wish.native and not asked.came and waited >= limits.subscribe_s
    if code == "slot_timeout":
        return waited >= limits.slot_s
    return code == "queue_timeout" and waited >= limits.queue_s


_MAY: dict[Outcome, Callable[[Asked, End, Around], bool]] = {
    Outcome.COMPLETED: _completed,
    Outcome.FAILED: _failed,
    Outcome.CANCELLED: _cancelled,
    Outcome.EXPIRED: _expired,
    Outcome.SHED: lambda asked, end, around: False,
}


def overdue(asked: Asked, status: str, now: float, around: Around) -> bool:
    """Has it been shown this for longer than its timers allow?"""
    age = now - asked.admitted_at - EPS
    limits = around.limits
    if status == "queued":
        return age >= limits.queue_s
    if status == "preparing":
        return age >= limits.queue_s + limits.prepare_s
    return status == "ready" and interested(asked, now, around) and age >= around.longest_wait()


def follows(before: str, after: str) -> bool:
    """May a request that was shown `before` be shown `after`? Never back, and an end is for ever."""
    if before in ENDS:
        return after == before
    return after in ENDS or STATUSES.index(after) >= STATUSES.index(before)
