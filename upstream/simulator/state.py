"""What one simulated model knows: its behaviour, its counts, its holds and its luck."""

from __future__ import annotations

from upstream.simulator.behaviour import Behaviour
from upstream.simulator.dice import Dice
from upstream.simulator.holds import Holds
from upstream.simulator.stats import Stats


class State:
    """Shared by all handlers of one simulator; every change to it is synchronous."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.stats = Stats()
        self.holds = Holds()
        self._reseed()

    def change(self, values: dict[str, str]) -> None:
        """Change settings for the calls to come. Raises `BehaviourError`, and then nothing is changed."""
        self.behaviour = self.behaviour.changed(values)
        if "seed" in values:
            self._reseed()

    def _reseed(self) -> None:
        self.chat_dice = Dice(self.behaviour.seed, "chat")
        self.prepare_dice = Dice(self.behaviour.seed, "prepare")
