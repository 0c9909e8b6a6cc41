"""The step `tools`: what a request's model chooses is run, and the answer's prompt has what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from processing.account import preface
from processing.caller import Caller
from processing.preparer import Prompt, with_messages
from processing.tools.direct import DirectAnswer
from processing.tools.results import Result, Status
from processing.tools.rounds import Rounds, Talk
from processing.workflows.naming import asked_for

#: A request that has any of these brings tools of its own, which its client runs.
_CLIENTS_OWN: Final = ("tools", "tool_choice", "functions", "function_call")


class ToolStep:
    """Before the answer. `who` says for whom a prompt is prepared, `cache_ttl_s` is the gateway's own."""

    name = "tools"

    def __init__(self, rounds: Rounds, who: Callable[[Prompt], Caller], cache_ttl_s: float) -> None:
        self._rounds = rounds
        self._who = who
        self._cache_ttl_s = cache_ttl_s

    def applies(self, body: Mapping[str, Any]) -> bool:
        """A client's own tools are its own to run, and a workflow's steps say which they have."""
        return asked_for(body) is None and all(body.get(name) is None for name in _CLIENTS_OWN)

    async def run(self, prompt: Prompt) -> Prompt:
        """The same prompt if no tool was chosen; else one with the calls and their results."""
        caller = self._who(prompt)
        tools = self._rounds.toolbox.for_caller(caller)
        if not tools:
            return prompt
        talk = await self._rounds.run(prompt.turn, prompt.body, tools, caller, direct=True)
        if not talk.rounds and talk.alone is None:
            return prompt
        prepared = bounded(with_messages(prompt, list(talk.messages)), [talk], self._cache_ttl_s)
        return told(prepared, [talk]) if talk.alone is None else self._direct(prepared, talk, caller)

    def _direct(self, prompt: Prompt, talk: Talk, caller: Caller) -> Prompt:
        assert talk.alone is not None
        tool, call = talk.alone
        answered = told(prompt, [talk])
        failed = Result(tool.name, Status.FAILED, note=f"{tool.name} failed: it gave no answer")
        talk.add(talk.pending, [call], [failed])
        otherwise = told(replace(with_messages(prompt, talk.messages), store=False), [talk])
        direct = DirectAnswer(self._rounds.toolbox, tool, call, caller, otherwise)
        return replace(answered, direct=direct)


def told(prompt: Prompt, talks: Iterable[Talk]) -> Prompt:
    """With an account of what ran, in the order in which it was asked for."""
    account = {"tools": [result.summary() for talk in talks for result in talk.results]}
    return replace(prompt, preface=(*prompt.preface, preface(prompt.body.get("model"), account)))


def bounded(prompt: Prompt, talks: Iterable[Talk], cache_ttl_s: float) -> Prompt:
    """What the tools that were used make of caching: it is only ever shortened.

    An answer out of half a result is not kept, nor one that claims to have had an effect.
    """
    store, ttl_s = prompt.store, prompt.ttl_s
    for talk in talks:
        if not talk.complete or talk.ttl_s == 0:
            store = False
        elif talk.ttl_s is not None:
            ttl_s = min(cache_ttl_s if ttl_s is None else ttl_s, talk.ttl_s)
    return replace(prompt, store=store, ttl_s=ttl_s)
