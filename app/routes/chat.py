"""The native routes: submit, subscribe, status, cancel. See docs/api.md."""

from __future__ import annotations

from starlette.routing import Route

from app import native_stream, waiting_stream
from app.cursor import cursor_given, start_of
from app.exchange import Endpoint, Exchange
from app.gateway import Gateway
from app.openai_answer import cache_status, server_timing
from app.parsing import native_request
from app.sse import HEADERS
from app.submission import submit_turn
from chatbot.record import Record
from chatbot.waiting import Waiting


class ChatRoutes:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def routes(self) -> list[Route]:
        traced = self._gateway.traced
        return [
            Route("/chat", traced("/chat", Endpoint(self.submit)), methods=["POST"]),
            Route("/chat/{id}/stream", traced("/chat/{id}/stream", Endpoint(self.stream)), methods=["GET"]),
            Route("/chat/{id}/cancel", Endpoint(self.cancel), methods=["POST"]),
            Route("/chat/{id}", Endpoint(self.status), methods=["GET"]),
        ]

    async def submit(self, exchange: Exchange) -> None:
        """202 with the new record, 200 with the old one where the request_id is known."""
        gateway = self._gateway
        submitted = await submit_turn(gateway, exchange, native_request)
        record, tenant = submitted.record, submitted.tenant
        progress = gateway.manager.progress(record) if isinstance(record, Record) else record.progress()
        id = record.ticket.id
        await exchange.json(
            202 if submitted.new else 200,
            {
                "id": id,
                "status": progress.status,
                "role": record.role.value,
                "stream_url": f"/chat/{id}/stream?ticket={gateway.auth.ticket(tenant, id)}",
                "queue_position": progress.queue_position,
            },
        )

    async def stream(self, exchange: Exchange) -> None:
        gateway = self._gateway
        tenant = gateway.auth.reader(exchange, exchange.id)
        record = await gateway.conversations.seek(exchange.id, tenant)
        if isinstance(record, Waiting):
            await waiting_stream.stream(exchange, gateway, record, tenant)
            return
        async with gateway.manager.readable(record, cursor_given(exchange)):
            await self._read(exchange, record)

    async def _read(self, exchange: Exchange, record: Record) -> None:
        gateway = self._gateway
        if exchange.span is not None:
            exchange.span.reads(record)
        start = start_of(exchange, record)
        if start.over:
            # 204 is what stops an EventSource that has seen the end.
            await exchange.empty(204)
            return
        headers = [(b"cache-status", cache_status(record)), (b"x-refrain-id", exchange.id.encode())]
        if timing := server_timing(record):
            headers.append((b"server-timing", timing))
        if exchange.head:
            await exchange.empty(200, [*HEADERS, *headers])
            return
        await native_stream.stream(exchange, gateway.connections, gateway.manager, record, start, headers)

    async def status(self, exchange: Exchange) -> None:
        gateway = self._gateway
        record = await gateway.conversations.seek(exchange.id, gateway.auth.tenant(exchange))
        if not isinstance(record, Waiting):
            await gateway.manager.level(record)
        await exchange.json(
            200, record.snapshot() if isinstance(record, Waiting) else gateway.manager.snapshot(record)
        )

    async def cancel(self, exchange: Exchange) -> None:
        record = await self._gateway.conversations.stop(exchange.id, self._gateway.auth.tenant(exchange))
        await exchange.json(200, self._gateway.manager.snapshot(record))
