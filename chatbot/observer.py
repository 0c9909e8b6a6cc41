"""What the pipeline tells whoever counts and logs. One call per request says how it ended."""

from __future__ import annotations

from typing import Protocol

from broadcast.lifecycle import Phase
from chatbot.record import Record


class Observer(Protocol):
    def joined(self, phase: Phase) -> None:
        """A follower shares a broadcast that is in this phase."""
        ...

    def ended(self, record: Record) -> None:
        """Exactly once for every record."""
        ...
