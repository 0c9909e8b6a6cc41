"""Tools for the steps of a workflow: rounds that know for whom they run, and what was used in them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from processing.calls import Reply
from processing.preparer import Turn
from processing.tools.caller import Caller
from processing.tools.rounds import Rounds, Talk


@dataclass
class BoundRounds:
    """One per flight. `talks` are what its steps have said to their tools, for `step.bounded` and for
    records.
    """

    rounds: Rounds
    caller: Caller
    talks: list[Talk] = field(default_factory=list)

    async def ask(self, turn: Turn, body: Mapping[str, Any], names: Collection[str]) -> Reply:
        """An answer with tools; see `Rounds.ask`."""
        reply, talk = await self.rounds.ask(turn, body, names, self.caller)
        self.talks.append(talk)
        return reply
