"""What the callers saw, added up, and every promise that was broken before their eyes."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from bench.soaking.questions import Question

#: So many of a kind are kept in words; all are counted.
KEPT: Final = 4
#: Promises on what is asked by an id, through whichever process.
GONE_BACK: Final = "a status went back"
OTHER_END: Final = "a record says another end"
NOT_KEPT: Final = "a cancel was accepted and the stream ended otherwise"
TOO_LATE: Final = "a cancel after the end was accepted"
NOT_OWNED: Final = "a cancel was refused as too late, and ended the request"
SECOND: Final = "a second cancel was answered otherwise"
BY_ID: Final = frozenset({GONE_BACK, OTHER_END, NOT_KEPT, TOO_LATE, NOT_OWNED, SECOND})


@dataclass
class Tally:
    """`sent`: requests that must be counted once each; `vague`: those that may or may not have arrived.

    `saved_tokens` and `saved_s` are of answers that came without a call of their own and were read to their
    end; `vague_tokens` and `vague_s` what those may add who did not wait to see.
    """

    began: float = field(default_factory=time.monotonic)
    ways: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    excused: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    words: list[str] = field(default_factory=list)
    hits: list[tuple[float, float]] = field(default_factory=list)
    sent: int = 0
    vague: int = 0
    saved_tokens: int = 0
    saved_s: float = 0.0
    vague_tokens: int = 0
    vague_s: float = 0.0
    texts: int = 0
    waiting: dict[str, int] = field(default_factory=dict)

    @property
    def requests(self) -> int:
        return self.sent + self.vague

    def at(self) -> float:
        return time.monotonic() - self.began

    def problem(self, what: str, detail: object = "") -> None:
        self.broken[what] += 1
        if self.broken[what] <= KEPT:
            self.words.append(f"{self.at():.1f} s: {what}: {str(detail)[:300]}")

    def hit(self, seconds: float) -> None:
        self.hits.append((self.at(), 1000 * seconds))

    def saved(self, question: Question) -> None:
        self.saved_tokens += question.tokens
        self.saved_s += question.seconds

    def seen_waiting(self, stage: str, number: int) -> None:
        self.waiting[stage] = max(number, self.waiting.get(stage, 0))

    def unseen(self, question: Question) -> None:
        """Somebody left before the end: what became of it, only the gateway knows."""
        self.vague_tokens += question.tokens
        self.vague_s += question.seconds
