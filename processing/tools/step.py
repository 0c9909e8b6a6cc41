"""The step `tools`: what a request's model chooses is run, and the answer's prompt has what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from processing.account import preface
from processing.caller import Caller
from processing.calls import Reply
from processing.preparer import Prompt, with_messages
from processing.ready import Ready, chunks
from processing.tools.direct import DirectAnswer
from processing.tools.results import Result, Status
from processing.tools.rounds import Rounds, Talk, formed
from processing.workflows.naming import asked_for

#: How an answer ends; cut by the request's own limit, it would be cut again.
_WHOLE: Final = ("stop", "length")
#: A request that has any of these brings tools of its own, which its client runs.
_CLIENTS_OWN: Final = ("tools", "tool_choice", "functions", "function_call")


def brings_its_own(body: Mapping[str, Any]) -> bool:
    """Whether a client's own tools are in the request: they are its own to run."""
    return any(body.get(name) is not None for name in _CLIENTS_OWN)


class ToolStep:
    """Before the answer. `who` says for whom a prompt is prepared, `cache_ttl_s` is the gateway's own."""

    name = "tools"

    def __init__(self, rounds: Rounds, who: Callable[[Prompt], Caller], cache_ttl_s: float) -> None:
        self._rounds = rounds
        self._who = who
        self._cache_ttl_s = cache_ttl_s

    def applies(self, body: Mapping[str, Any]) -> bool:
        """A workflow's steps say which tools they have."""
        return asked_for(body) is None and not brings_its_own(body)

    async def run(self, prompt: Prompt) -> Prompt:
        """The same prompt if there is no tool for its caller; else one with the calls and their results.

        What the model says when it chooses no more tools is the answer: it is not asked for it again.
        """
        caller = self._who(prompt)
        tools = self._rounds.toolbox.for_caller(caller)
        if not tools:
            return prompt
        talk = await self._rounds.run(prompt.turn, prompt.body, tools, caller, direct=not formed(prompt.body))
        prepared = bounded(with_messages(prompt, list(talk.messages)), [talk], self._cache_ttl_s)
        if talk.alone is not None:
            return self._direct(prepared, talk, caller)
        prepared = told(prepared, [talk]) if talk.rounds else prompt
        return prepared if talk.reply is None else answered(prepared, talk.reply)

    def _direct(self, prompt: Prompt, talk: Talk, caller: Caller) -> Prompt:
        assert talk.alone is not None
        tool, call = talk.alone
        streamed = told(prompt, [talk], {"tool": tool.name, "status": "streams"})
        failed = Result(tool.name, Status.FAILED, note=f"{tool.name} failed: it gave no answer")
        talk.add(talk.pending, [call], [failed])
        otherwise = told(replace(with_messages(prompt, talk.messages), store=False), [talk])
        direct = DirectAnswer(self._rounds.toolbox, tool, call, caller, otherwise)
        return replace(streamed, direct=direct)


def answered(prompt: Prompt, reply: Reply) -> Prompt:
    """With the reply as its answer, if it is one, and of the form that was asked for."""
    if formed(prompt.body) or not reply.text.strip() or reply.finish_reason not in _WHOLE:
        return prompt
    message = {"role": "assistant"} | {name: value for name, value in reply.message.items() if value}
    answer = chunks(prompt.body.get("model"), [message], reply.finish_reason, reply.usage)
    return replace(prompt, direct=Ready(answer, prompt))


def told(prompt: Prompt, talks: Iterable[Talk], *last: Mapping[str, Any]) -> Prompt:
    """With an account of what ran, in the order in which it was asked for, and of the `last` that is to."""
    account = {"tools": [*(result.summary() for talk in talks for result in talk.results), *last]}
    return replace(prompt, preface=(preface(prompt.body.get("model"), account, prompt.preface),))


def bounded(prompt: Prompt, talks: Iterable[Talk], cache_ttl_s: float) -> Prompt:
    """What the tools that were used make of caching and of joining: both are only ever shortened.

    An answer out of half a result is not kept, nor one that claims to have had an effect.
    """
    store, ttl_s, fresh_s = prompt.store, prompt.ttl_s, prompt.fresh_s
    for talk in talks:
        if talk.ttl_s is not None:
            fresh_s = talk.ttl_s if fresh_s is None else min(fresh_s, talk.ttl_s)
        if not talk.complete or talk.ttl_s == 0:
            store = False
        elif talk.ttl_s is not None:
            ttl_s = min(cache_ttl_s if ttl_s is None else ttl_s, talk.ttl_s)
    return replace(prompt, store=store, ttl_s=ttl_s, fresh_s=fresh_s)
