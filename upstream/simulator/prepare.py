"""POST /prepare: a preparation hook whose delay, failures and answers a test can set."""

from __future__ import annotations

import asyncio
from typing import Any

from upstream.simulator.answers import last_user_text, prompt_digest
from upstream.simulator.directive import Directive, parse_directive
from upstream.simulator.exchange import JSON, Exchange
from upstream.simulator.refusal import Refusal
from upstream.simulator.request import Messages, PrepareRequest, parse_request
from upstream.simulator.state import State
from upstream.simulator.stats import Outcome, Visit
from upstream.simulator.visit import let_leavers_go, serve_visit
from upstream.simulator.wire import GARBAGE


def prepared_message(messages: Messages) -> dict[str, Any]:
    """The system message that the hook appends: it names the prompt it was derived from."""
    return {"role": "system", "content": f"Simulated preparation of {prompt_digest(messages)}."}


class PrepareHandler:
    """Serves preparations; they are counted apart from the model's calls."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def __call__(self, exchange: Exchange) -> None:
        body = await exchange.body()
        await let_leavers_go()
        meter, roll = self._state.stats.prepare, self._state.prepare_dice.roll()
        try:
            messages = parse_request(body, PrepareRequest).messages
            directive = parse_directive(last_user_text(messages))
        except Refusal:
            meter.turn_away(Outcome.FAILED)
            raise
        unlucky = roll.fail < self._state.behaviour.prepare_fail_rate
        status = directive.prepare_status or (503 if unlucky else None)
        visit = meter.enter()
        await serve_visit(exchange, visit, self._prepare(exchange, visit, messages, directive, status))

    async def _prepare(
        self, exchange: Exchange, visit: Visit, messages: Messages, directive: Directive, status: int | None
    ) -> None:
        if directive.prepare_hold is not None:
            await self._state.holds.wait(directive.prepare_hold)
        delay = directive.prepare_delay
        await asyncio.sleep(self._state.behaviour.prepare_delay if delay is None else delay)
        if status is not None:
            visit.end(Outcome.FAILED)
            await exchange.refuse(Refusal(status, f"Simulated preparation error {status}."))
        elif directive.prepare_garbage:
            visit.end(Outcome.FAILED)
            await exchange.open(JSON)
            await exchange.close(GARBAGE)
        else:
            visit.end(Outcome.COMPLETED)
            await exchange.reply(_answer(messages, directive))


def _answer(messages: Messages, directive: Directive) -> dict[str, Any]:
    answer: dict[str, Any] = {"messages": [*messages, prepared_message(messages)]}
    if directive.prepare_model is not None:
        answer["model"] = directive.prepare_model
    if not directive.prepare_store:
        answer["store"] = False
    if directive.prepare_ttl is not None:
        answer["ttl_s"] = directive.prepare_ttl
    return answer
