"""What is asked: questions whose answers are foretold, some of them popular, some asked by a few at once."""

from __future__ import annotations

import base64
import itertools
import random
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from tests.system.prompts import prompt
from upstream.simulator.answers import answer_tokens
from upstream.simulator.prepare import prepared_message

HOT: Final = 12
#: So many callers in a row ask the same: most of them while it is being answered.
TWINS: Final = 5
BIG_BYTES: Final = 700_000
PIECE: Final = 1 << 14


@dataclass(frozen=True)
class Question:
    """`seconds`: how long the model takes for it."""

    text: str
    tokens: int
    seconds: float
    dictated: str | None = None

    @cached_property
    def answer(self) -> str:
        """As the model gives it to the question with what the preparation hook adds."""
        if self.dictated is not None:
            return self.dictated
        asked = [{"role": "user", "content": self.text}]
        return "".join(answer_tokens([*asked, prepared_message(asked)], self.tokens))


class Questions:
    """Drawn from `chance`; two runs with one seed ask the same."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._fresh = itertools.count()
        self._twin = itertools.count()
        self._hot = [asking(f"Hot {number}?", 24, 0.02, 400) for number in range(HOT)]

    def hot(self) -> Question:
        return self._chance.choice(self._hot)

    def twin(self) -> Question:
        return asking(f"Twin {next(self._twin) // TWINS}?", 20, 0.15, 60)

    def distinct(self) -> Question:
        tokens = self._chance.randrange(4, 30)
        return asking(f"Distinct {next(self._fresh)}?", tokens, self._chance.choice((0.0, 0.05, 0.2)), 150)

    def any(self) -> Question:
        return self._chance.choices((self.hot, self.twin, self.distinct), (3, 3, 2))[0]()

    def big(self) -> Question:
        """More than the kernel keeps for a client that reads nothing."""
        number = next(self._fresh)
        text = "".join(f"{number}.{place:07d} " for place in range(BIG_BYTES // 12))
        dictated = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
        asked = prompt(f"Big {number}", ttft=0.02, tps=0, text=dictated, cut=PIECE)
        return Question(asked, -(-len(text) // PIECE), 0.05, text)


def asking(words: str, tokens: int, ttft: float, tps: int) -> Question:
    return Question(prompt(words, tokens=tokens, ttft=ttft, tps=tps), tokens, ttft + (tokens - 1) / tps)
