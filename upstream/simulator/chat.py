"""POST /v1/chat/completions: count the call, decide its fate, then act it out."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from http import HTTPStatus

from upstream.simulator.answers import last_user_text, prompt_digest
from upstream.simulator.dice import Roll
from upstream.simulator.directive import Directive, parse_directive
from upstream.simulator.exchange import Exchange
from upstream.simulator.holds import forever
from upstream.simulator.player import Player
from upstream.simulator.refusal import Refusal
from upstream.simulator.reply import Reply, StreamReply, WholeReply
from upstream.simulator.request import ChatRequest, parse_request
from upstream.simulator.script import Script, write_script
from upstream.simulator.state import State
from upstream.simulator.stats import Outcome, Visit
from upstream.simulator.visit import let_leavers_go, serve_visit
from upstream.simulator.wire import Head

_LIMITED = HTTPStatus.TOO_MANY_REQUESTS


@dataclass(frozen=True, slots=True)
class Call:
    """One admitted call and what was decided for it. `refusal` set: it is answered instead of a script."""

    request: ChatRequest
    directive: Directive
    head: Head
    script: Script
    refusal: Refusal | None
    arrived: float
    visit: Visit


class ChatHandler:
    """Serves completions. Every call counts once, and ends in exactly one outcome."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._serial = itertools.count(1)

    async def __call__(self, exchange: Exchange) -> None:
        body = await exchange.body()
        await let_leavers_go()
        call = self._admit(body)
        await serve_visit(exchange, call.visit, self._answer(exchange, call))

    def _admit(self, body: bytes) -> Call:
        """Count and decide in one go, without an await. Raises `Refusal` for a call that is not served."""
        state = self._state
        roll = state.chat_dice.roll()
        try:
            request = parse_request(body, ChatRequest)
            directive = parse_directive(last_user_text(request.messages))
            script = write_script(request, directive, state.behaviour, roll)
        except Refusal:
            state.stats.chat.turn_away(Outcome.FAILED)
            raise
        digest = prompt_digest(request.messages)
        nth = state.stats.asked(digest, request.model_name, bool(request.stream))
        visit = self._enter()
        return Call(
            request=request,
            directive=directive,
            head=Head(f"chatcmpl-sim-{digest}-{next(self._serial)}", request.model_name, request.n or 1),
            script=script,
            refusal=self._refusal(directive, roll, nth),
            arrived=asyncio.get_running_loop().time(),
            visit=visit,
        )

    def _enter(self) -> Visit:
        meter, behaviour = self._state.stats.chat, self._state.behaviour
        if meter.full(behaviour.max_streams):
            meter.turn_away(Outcome.RATE_LIMITED)
            raise Refusal(_LIMITED, "Too many simulated streams.", retry_after=behaviour.retry_after)
        return meter.enter()

    def _refusal(self, directive: Directive, roll: Roll, nth: int) -> Refusal | None:
        status, behaviour = directive.status, self._state.behaviour
        if status is not None and (not directive.times or nth <= directive.times):
            default = behaviour.retry_after if status == _LIMITED else None
            wait = default if directive.retry_after is None else directive.retry_after
            return Refusal(status, f"Simulated error {status}.", code=directive.code, retry_after=wait)
        if roll.fail < behaviour.fail_rate:
            return Refusal(503, "Simulated failure.")
        return None

    async def _answer(self, exchange: Exchange, call: Call) -> None:
        if call.directive.hang:
            await forever()
        if call.refusal is not None:
            await self._refuse(exchange, call, call.refusal)
            return
        stats, choices = self._state.stats, call.head.choices
        form = StreamReply if call.request.stream else WholeReply
        reply: Reply = form(exchange, call.head, call.script)
        player = Player(call.script, reply, call.arrived, lambda deltas: stats.sent(deltas * choices))
        await player.play(self._state.holds, call.visit)

    async def _refuse(self, exchange: Exchange, call: Call, refusal: Refusal) -> None:
        if call.directive.hold is not None:
            await self._state.holds.wait(call.directive.hold)
        limited = refusal.status == _LIMITED
        call.visit.end(Outcome.RATE_LIMITED if limited else Outcome.FAILED)
        await exchange.refuse(refusal)
