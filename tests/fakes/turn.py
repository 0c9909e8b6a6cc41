"""A turn of one's own, for a prompt that belongs to no flight."""

from __future__ import annotations

from dataclasses import dataclass

from admission import Admission
from processing.preparer import Prompt


@dataclass(eq=False)
class FakeTurn:
    order: float = 0.0
    admission: Admission | None = None


def prompt(text: str = "q", turn: FakeTurn | None = None) -> Prompt:
    body = {"model": "m", "messages": [{"role": "user", "content": text}], "temperature": 0.5}
    return Prompt(body, turn or FakeTurn())
