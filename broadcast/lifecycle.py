"""The life of a broadcast: everything that decides which phase may follow which is in this file.

    WAITING ─granted→ PREPARING ─prepared→ IDLE ─subscribed→ QUEUED ─slot→ LIVE ─complete→ SEALED
                                             ↑                 │  ↑          │
                                             └────deserted─────┘  └──retry───┘

From every running phase: fail → FAILED, abandon → CANCELLED, expire → EXPIRED. Ended phases have no way out.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum, auto
from typing import Final


class Phase(StrEnum):
    WAITING = auto()  #: for a leaders permit
    PREPARING = auto()  #: holds a leaders permit
    IDLE = auto()  #: prepared, nobody listens, nothing is held
    QUEUED = auto()  #: somebody listens; waits for an LLM slot
    LIVE = auto()  #: holds an LLM slot
    SEALED = auto()
    FAILED = auto()
    CANCELLED = auto()
    EXPIRED = auto()


class Signal(StrEnum):
    GRANTED = auto()  #: the leaders permit
    PREPARED = auto()
    SUBSCRIBED = auto()  #: the first reader of any role connected
    DESERTED = auto()  #: the last reader left before there was a slot
    SLOT_GRANTED = auto()
    RETRY = auto()  #: the call failed before its first delta and will be made again
    COMPLETE = auto()
    FAIL = auto()
    ABANDON = auto()  #: nobody is interested any more
    EXPIRE = auto()  #: the deadlines of all who were interested have passed


class IllegalTransition(RuntimeError):
    """A bug: the signal has no meaning in that phase."""


_END: Final = {Signal.FAIL: Phase.FAILED, Signal.ABANDON: Phase.CANCELLED, Signal.EXPIRE: Phase.EXPIRED}

TRANSITIONS: Final[dict[Phase, dict[Signal, Phase]]] = {
    Phase.WAITING: {Signal.GRANTED: Phase.PREPARING, **_END},
    Phase.PREPARING: {Signal.PREPARED: Phase.IDLE, **_END},
    Phase.IDLE: {Signal.SUBSCRIBED: Phase.QUEUED, **_END},
    Phase.QUEUED: {Signal.SLOT_GRANTED: Phase.LIVE, Signal.DESERTED: Phase.IDLE, **_END},
    Phase.LIVE: {Signal.COMPLETE: Phase.SEALED, Signal.RETRY: Phase.QUEUED, **_END},
    Phase.SEALED: {},
    Phase.FAILED: {},
    Phase.CANCELLED: {},
    Phase.EXPIRED: {},
}

RUNNING: Final = frozenset(phase for phase, ways in TRANSITIONS.items() if ways)
#: Prepared, and without an LLM slot: what `REFRAIN_MAX_PENDING` bounds.
PENDING: Final = frozenset({Phase.IDLE, Phase.QUEUED})


def advance(phase: Phase, signal: Signal) -> Phase:
    """The phase that follows; IllegalTransition if none does."""
    try:
        return TRANSITIONS[phase][signal]
    except KeyError:
        raise IllegalTransition(f"{signal} in phase {phase}") from None


def prepared_s(entered_at: Mapping[Phase, float]) -> float:
    """How long its preparation took; 0 where this process has not seen it."""
    idle = entered_at.get(Phase.IDLE, 0.0)
    return idle - entered_at.get(Phase.PREPARING, idle)
