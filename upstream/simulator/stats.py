"""What the simulated model counts, so that a test can hold the gateway to its limits from outside."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum


class Outcome(StrEnum):
    """How a call ended; the names are those of `/stats`."""

    COMPLETED = "completed"
    ABORTED = "aborted"
    RATE_LIMITED = "rate_limited"
    FAILED = "failed"


class Meter:
    """Calls of one kind, now and ever. At rest `calls` is the sum of the four outcomes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.calls = 0
        self.in_flight = 0
        self.peak = 0
        self._busy_s = 0.0
        self._ended = dict.fromkeys(Outcome, 0)

    def enter(self) -> Visit:
        """Count a call in. Ask `full` first where there is a limit, with no await in between."""
        self.calls += 1
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        return Visit(self)

    def full(self, limit: int) -> bool:
        """Whether as many as `limit` (0 = no limit) are in flight."""
        return 0 < limit <= self.in_flight

    def turn_away(self, outcome: Outcome) -> None:
        """Count a call that was answered without ever being in flight."""
        self.calls += 1
        self._ended[outcome] += 1

    def leave(self, outcome: Outcome, seconds: float) -> None:
        """One that was entered is over, after so long."""
        self.in_flight -= 1
        self._busy_s += seconds
        self._ended[outcome] += 1

    def reset(self) -> None:
        """Count from zero; what is in flight stays so."""
        self.calls = 0
        self.peak = self.in_flight
        self._busy_s = 0.0
        self._ended = dict.fromkeys(Outcome, 0)

    def snapshot(self) -> dict[str, int]:
        counts = {"calls": self.calls, "in_flight": self.in_flight, "peak": self.peak}
        ends = {outcome.value: count for outcome, count in self._ended.items()}
        return {**counts, **ends, "busy_ms": round(self._busy_s * 1000)}


class Visit:
    """One call's place in its meter. `end` is idempotent: the first outcome is the one that counts."""

    __slots__ = ("_begun", "_meter")

    def __init__(self, meter: Meter) -> None:
        self._meter: Meter | None = meter
        self._begun = meter.clock()

    def end(self, outcome: Outcome) -> None:
        meter, self._meter = self._meter, None
        if meter is not None:
            meter.leave(outcome, meter.clock() - self._begun)


class Tally:
    """How often each name was seen, for the latest names: an embedded model runs for months."""

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._counts: dict[str, int] = {}
        self.distinct = 0

    def add(self, name: str) -> int:
        """Count one, and tell how many that makes for this name."""
        if name not in self._counts:
            self.distinct += 1
            if len(self._counts) >= self._limit:
                del self._counts[next(iter(self._counts))]
        self._counts[name] = self._counts.get(name, 0) + 1
        return self._counts[name]

    def __contains__(self, name: str) -> bool:
        return name in self._counts

    def snapshot(self) -> dict[str, int]:
        return dict(self._counts)


class Stats:
    """Everything that `/stats` tells and `/reset` sets to zero."""

    def __init__(self) -> None:
        self.chat = Meter()
        self.prepare = Meter()
        self._clear()

    def _clear(self) -> None:
        self.streams = 0
        self.tokens = 0
        self._connections = Tally()
        self._prompts = Tally()
        self._models = Tally()

    def connected(self, client: tuple[str, int] | None) -> None:
        """Note the connection that a call of the model came by."""
        if client is not None:
            self._connections.add(f"{client[0]}:{client[1]}")

    def asked(self, digest: str, model: str, stream: bool) -> int:
        """Note what a call asks; which call of this very prompt it is, from 1."""
        self.streams += stream
        self._models.add(model)
        return self._prompts.add(digest)

    def sent(self, tokens: int) -> None:
        """Note tokens that go out."""
        self.tokens += tokens

    def reset(self) -> None:
        self.chat.reset()
        self.prepare.reset()
        self._clear()

    def snapshot(self) -> dict[str, object]:
        prepare = self.prepare.snapshot()
        del prepare[Outcome.RATE_LIMITED]  # the hook limits no rate
        return {
            **self.chat.snapshot(),
            "streams": self.streams,
            "tokens": self.tokens,
            "connections": self._connections.distinct,
            "prepare": prepare,
            "calls_by_prompt": self._prompts.snapshot(),
            "calls_by_model": self._models.snapshot(),
        }
