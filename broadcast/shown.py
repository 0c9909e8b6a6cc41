"""What the maker of a broadcast says of it to its mirrors: phase, step, place in the queue, times, trace.

Times go over as ages in milliseconds, since no two machines' clocks are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from broadcast.lifecycle import RUNNING, Phase

if TYPE_CHECKING:
    from broadcast.broadcast import Broadcast


@dataclass(frozen=True, slots=True)
class Shown:
    """`position` 0: it waits in no queue. `eta_s` None: unknown."""

    position: int = 0
    eta_s: float | None = None


class _Said(msgspec.Struct, array_like=True):
    phase: str
    step: str | None
    position: int
    eta_s: float | None
    ages_ms: dict[str, int] = msgspec.field(default_factory=dict)
    first_delta_ms: int | None = None
    traceparent: str = ""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Said)


def say(broadcast: Broadcast[Any], eta_s: float | None, now: float) -> bytes:
    """As it is kept beside the log in Redis. `now` is loop time."""
    ages = {phase.value: round((now - at) * 1000) for phase, at in broadcast.entered_at.items()}
    first = broadcast.first_delta_at
    first_ms = None if first is None else round((now - first) * 1000)
    said = _Said(
        broadcast.phase.value,
        broadcast.step,
        broadcast.place,
        eta_s,
        ages,
        first_ms,
        broadcast.traceparent,
    )
    return _encoder.encode(said)


def one_line(raw: bytes) -> bytes:
    """A newline in JSON is white space; in an entry of Redis it parts two chunks."""
    return raw.replace(b"\n", b" ") if b"\n" in raw else raw


def reached(broadcast: Broadcast[Any]) -> tuple[str, int, int]:
    """Its phase, how many it has been in, and its place in a queue: what others have to know."""
    return broadcast.phase.value, len(broadcast.entered_at), broadcast.place


def hear(broadcast: Broadcast[Any], said: bytes, now: float) -> None:
    """Make a mirror show it. What cannot be read is as if nothing had been said."""
    try:
        told = _decoder.decode(said)
        phase = Phase(told.phase)
        entered = {Phase(name): now - age / 1000 for name, age in told.ages_ms.items()}
    except (msgspec.MsgspecError, ValueError):
        return
    broadcast.step = told.step
    broadcast.shown = Shown(told.position, told.eta_s)
    broadcast.entered_at.update(entered)
    broadcast.traceparent = told.traceparent
    if told.first_delta_ms is not None:
        broadcast.first_delta_at = now - told.first_delta_ms / 1000
    if phase in RUNNING:
        broadcast.show(phase)
