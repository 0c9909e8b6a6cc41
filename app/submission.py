"""From an HTTP exchange to an admitted request: the way both wires share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.body import read_json
from app.exchange import Exchange
from app.gateway import Gateway
from app.parsing import Asked
from chatbot.record import Record
from chatbot.ticket import Ticket
from chatbot.via import Via
from runtime.errors import GatewayError


@dataclass(frozen=True, slots=True)
class Submitted:
    """`new` is False where the request_id was known: the record is that of the first submit."""

    record: Record
    new: bool
    asked: Asked
    tenant: str


async def submit(
    gateway: Gateway, exchange: Exchange, via: Via, parse: Callable[[Exchange, dict[str, Any]], Asked]
) -> Submitted:
    """Who asks, what, and may they now. Whatever refuses it is counted and logged here, once."""
    tenant = None
    try:
        tenant = gateway.auth.tenant(exchange)
        asked = parse(exchange, await read_json(exchange, gateway.max_body_bytes))
        request = await gateway.with_default_model(asked.request)
        span = exchange.span
        ticket = Ticket.issue(tenant, request.priority, "" if span is None else span.traceparent)
        record, new = await gateway.manager.submit(request, ticket, via)
    except GatewayError as error:
        gateway.observer.refused(via.route, tenant, error)
        raise
    if span is not None:
        span.admitted(record)
    return Submitted(record, new, asked, tenant)
