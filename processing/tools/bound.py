"""Tools for the steps of a workflow: rounds that know for whom they run, and what was used in them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from processing.caller import Caller
from processing.calls import Reply
from processing.preparer import Prompt, Turn, with_messages
from processing.tools.rounds import Rounds, Talk
from processing.tools.step import answered, bounded, brings_its_own, told


@dataclass
class BoundRounds:
    """One per flight. `talks` are what its steps have said to their tools."""

    rounds: Rounds
    caller: Caller
    cache_ttl_s: float
    talks: list[Talk] = field(default_factory=list)

    async def ask(self, turn: Turn, body: Mapping[str, Any], names: Collection[str]) -> Reply:
        """An answer with tools; see `Rounds.ask`."""
        talk = Talk(list(body["messages"]))
        self.talks.append(talk)  # before it: what ran counts, however the try ends
        reply, _ = await self.rounds.ask(turn, body, names, self.caller, talk)
        return reply

    async def before(
        self, turn: Turn, body: Mapping[str, Any], names: Collection[str], usages: list[dict[str, Any]]
    ) -> Callable[[Prompt], Prompt]:
        """The rounds before an answer that is asked for in the usual way, if it is not among them."""
        talk = Talk(list(body["messages"]), usages=usages)
        tools = [] if brings_its_own(body) else self.rounds.toolbox.for_caller(self.caller, names)
        if tools:
            self.talks.append(talk)
            await self.rounds.run(turn, body, tools, self.caller, follow=False, talk=talk)

        def said(prompt: Prompt) -> Prompt:
            prompt = with_messages(prompt, list(talk.messages))
            return prompt if talk.reply is None else answered(prompt, talk.reply)

        return said

    def bounded(self, prompt: Prompt) -> Prompt:
        """The prompt, kept as long as what was used allows, and an account of what ran."""
        return told(bounded(prompt, self.talks, self.cache_ttl_s), self.talks) if self.talks else prompt
