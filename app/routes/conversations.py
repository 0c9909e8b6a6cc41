"""The routes of a whole conversation: show it, forget it, cancel all of it. See docs/conversations.md."""

from __future__ import annotations

from starlette.routing import Route

from app.exchange import Endpoint, Exchange
from app.gateway import Gateway


class ConversationRoutes:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def routes(self) -> list[Route]:
        return [
            Route("/conversations/{id}", Endpoint(self.show), methods=["GET"]),
            Route("/conversations/{id}", Endpoint(self.forget), methods=["DELETE"]),
            Route("/conversations/{id}/cancel", Endpoint(self.cancel), methods=["POST"]),
        ]

    async def show(self, exchange: Exchange) -> None:
        tenant = self._gateway.auth.tenant(exchange)
        await exchange.json(200, await self._gateway.conversations.show(exchange.id, tenant))

    async def forget(self, exchange: Exchange) -> None:
        tenant = self._gateway.auth.tenant(exchange)
        await self._gateway.conversations.forget(exchange.id, tenant)
        await exchange.empty(204)

    async def cancel(self, exchange: Exchange) -> None:
        tenant = self._gateway.auth.tenant(exchange)
        cancelled = await self._gateway.conversations.cancel(exchange.id, tenant)
        await exchange.json(200, {"cancelled": cancelled})
