"""A permit that says what the test wants it to say."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class FakePermit:
    stage: str = "llm_streams"
    held: bool = True
