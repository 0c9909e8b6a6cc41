"""The loop between a model and its tools: it is asked, what it chose is run, and it is asked again.

Nothing is held between two calls of the model: each takes its permit inside `ask`, and the tools have slots
of their own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec

from processing.caller import Caller
from processing.calls import Reply
from processing.preparer import Turn
from processing.tools.asked import Call, calls_of, echo
from processing.tools.places import Places
from processing.tools.results import Result, Status
from processing.tools.tool import Tool
from processing.tools.toolbox import At, Toolbox

#: What a request may say of its answer's form, which its calls of tools do not have.
OF_THE_ANSWER: Final = frozenset({"n", "response_format", "stop", "logprobs", "top_logprobs", "tool_choice"})

_LIMITS: Final = ("max_tokens", "max_completion_tokens")


def formed(body: Mapping[str, Any]) -> bool:
    """Whether the answer is to have a form that a reply among calls of tools was not asked for."""
    return any(body.get(name) is not None for name in OF_THE_ANSWER if (name, body.get(name)) != ("n", 1))


class Calls(Protocol):
    """`processing.calls.ModelCalls`, or what stands in its place."""

    async def ask(self, turn: Turn, body: Mapping[str, Any], scope: str) -> Reply: ...


@dataclass(slots=True)
class Talk:
    """What has been said. `messages` begins with the request's own; `used` are the tools that ran, each once.

    `reply` is the model's last if it chose no tool in it, None when the rounds are over; `alone` is the one
    call of a tool that streams, if it is that which is to come next, and `pending` the message that asks for
    it.
    """

    messages: list[Any]
    reply: Reply | None = None
    alone: tuple[Tool, Call] | None = None
    pending: Mapping[str, Any] = field(default_factory=dict)
    rounds: int = 0
    used: dict[str, Tool] = field(default_factory=dict)
    usages: list[dict[str, Any]] = field(default_factory=list)  #: of each call of the model that told
    results: list[Result] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every tool that ran has said all it had to say."""
        return all(result.status in (Status.OK, Status.REFUSED) for result in self.results)

    @property
    def ttl_s(self) -> float | None:
        """How long the answer holds, by the tools that were used; None: as long as any."""
        bounds = [tool.options.ttl_s for tool in self.used.values() if tool.options.ttl_s is not None]
        return min(bounds, default=None)

    def add(self, message: Mapping[str, Any], calls: Sequence[Call], results: Sequence[Result]) -> None:
        """A round is over."""
        self.rounds += 1
        self.results += results
        self.messages.append(echo(message, calls))
        self.messages += [
            {"role": "tool", "tool_call_id": call.id, "content": result.content}
            for call, result in zip(calls, results, strict=True)
        ]


class Rounds:
    """At most `limit` calls of the model, each followed by the tools that it chose."""

    def __init__(self, toolbox: Toolbox, calls: Calls, limit: int) -> None:
        self.toolbox = toolbox
        self._calls = calls
        self._limit = limit

    async def run(
        self,
        turn: Turn,
        body: Mapping[str, Any],
        tools: Sequence[Tool],
        caller: Caller,
        *,
        follow: bool = True,
        direct: bool = False,
        talk: Talk | None = None,
    ) -> Talk:
        """Raises what `ask` raises; a tool's failure is one of the messages.

        `follow`: the places of the tools follow the turn, in its `admission`. `direct`: stop before the call
        of a tool that streams, if it is the only one of its round.
        """
        talk = talk or Talk(list(body["messages"]))
        offered = [tool.offered for tool in tools]
        asked = {name: value for name, value in body.items() if name not in OF_THE_ANSWER}
        while talk.rounds < self._limit:
            reply = await self._chosen(
                turn, {**asked, "messages": talk.messages, "tools": offered}, talk, caller
            )
            calls = calls_of(reply.message)
            if not calls:
                talk.reply = reply
                break
            if direct and (alone := _alone(calls, tools)) is not None:
                talk.alone, talk.pending = (alone, calls[0]), reply.message
                talk.used[alone.name] = alone
                break
            before, named = talk.used, {call.name for call in calls}
            # Also if the round is cut off: what was begun may have had its effect.
            talk.used = before | {tool.name: tool for tool in tools if tool.name in named}
            results = await self._round(turn, calls, tools, caller, follow=follow)
            talk.used = before | _used(results, tools)
            talk.add(reply.message, calls, results)
        return talk

    async def _chosen(self, turn: Turn, body: dict[str, Any], talk: Talk, caller: Caller) -> Reply:
        """The client's limit is one of its answer: calls of tools that it has cut are asked for again."""
        reply = await self._calls.ask(turn, body, caller.scope)
        talk.usages += [reply.usage] if reply.usage else []
        limits = [name for name in _LIMITS if body.pop(name, None) is not None]
        if reply.finish_reason == "length" and limits and calls_of(reply.message):
            reply = await self._calls.ask(turn, body, caller.scope)
            talk.usages += [reply.usage] if reply.usage else []
        return reply

    async def ask(
        self,
        turn: Turn,
        body: Mapping[str, Any],
        names: Collection[str],
        caller: Caller,
        talk: Talk | None = None,
    ) -> tuple[Reply, Talk]:
        """An answer with tools: what a step of a workflow asks for. The answer of the last round, or one
        more call, also for a form that was asked for; its `usage` is that of all calls.

        `turn.admission` is set for calls of the model alone: who counts them there counts no tool.
        """
        tools = self.toolbox.for_caller(caller, names)
        talk = talk or Talk(list(body["messages"]))
        if tools:
            await self.run(turn, body, tools, caller, follow=False, talk=talk)
        if talk.reply is None or formed(body):
            talk.reply = await self._calls.ask(turn, {**body, "messages": talk.messages}, caller.scope)
            talk.usages += [talk.reply.usage] if talk.reply.usage else []
        return msgspec.structs.replace(talk.reply, usage=_sum(talk.usages)), talk

    async def _round(
        self, turn: Turn, calls: Sequence[Call], tools: Sequence[Tool], caller: Caller, *, follow: bool
    ) -> list[Result]:
        places = Places()
        with places.stand_in(turn) if follow else nullcontext():
            return await self.toolbox.run(calls, tools, caller, At(turn, places))


def _sum(usages: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Of what models say, who may say anything: what is no number counts as nothing."""
    names = ("prompt_tokens", "completion_tokens")
    told = {name: [used.get(name) for used in usages] for name in names}
    return {name: sum(n for n in said if type(n) is int) for name, said in told.items()} if usages else None


def _alone(calls: Sequence[Call], tools: Sequence[Tool]) -> Tool | None:
    if len(calls) != 1:
        return None
    return next((t for t in tools if t.name == calls[0].name and t.options.direct_stream), None)


def _used(results: Sequence[Result], tools: Sequence[Tool]) -> dict[str, Tool]:
    """Those that ran, or were begun."""
    ran = {result.tool for result in results if result.status is not Status.REFUSED}
    return {tool.name: tool for tool in tools if tool.name in ran}
