"""From an HTTP exchange to an admitted request: the way both wires share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from app.body import read_json
from app.exchange import Exchange
from app.gateway import Gateway
from app.parsing import Asked
from chatbot.record import Record
from chatbot.request import ChatRequest
from chatbot.ticket import Ticket
from chatbot.via import NATIVE, Via
from chatbot.waiting import Waiting
from runtime.errors import GatewayError

F = TypeVar("F", bound=Record | Waiting)
Parse = Callable[[Exchange, dict[str, Any]], Asked]
Admit = Callable[[ChatRequest, Ticket], Awaitable[tuple[F, bool]]]


@dataclass(frozen=True, slots=True)
class Submitted(Generic[F]):
    """`new` is False where the request_id was known: the record is that of the first submit."""

    record: F
    new: bool
    asked: Asked
    tenant: str


async def submit(gateway: Gateway, exchange: Exchange, via: Via, parse: Parse) -> Submitted[Record]:
    """Who asks, what, and may they now. Whatever refuses it is counted and logged here, once."""
    return await _submit(gateway, exchange, via, parse, partial(gateway.manager.submit, via=via))


async def submit_turn(gateway: Gateway, exchange: Exchange, parse: Parse) -> Submitted[Record | Waiting]:
    """The same on the native wire, where a request may be a turn of a conversation."""

    async def admit(request: ChatRequest, ticket: Ticket) -> tuple[Record | Waiting, bool]:
        if request.conversation is None:
            return await gateway.manager.submit(request, ticket, NATIVE)
        return await gateway.conversations.submit(request, ticket)

    return await _submit(gateway, exchange, NATIVE, parse, admit)


async def _submit(
    gateway: Gateway, exchange: Exchange, via: Via, parse: Parse, admit: Admit[F]
) -> Submitted[F]:
    tenant = None
    try:
        tenant = gateway.auth.tenant(exchange)
        asked = parse(exchange, await read_json(exchange, gateway.max_body_bytes))
        request = await gateway.with_default_model(asked.request)
        span = exchange.span
        ticket = Ticket.issue(tenant, request.priority, "" if span is None else span.traceparent)
        record, new = await admit(request, ticket)
    except GatewayError as error:
        gateway.observer.refused(via.route, tenant, error)
        raise
    if span is not None and isinstance(record, Record):
        span.admitted(record)
    return Submitted(record, new, asked, tenant)
