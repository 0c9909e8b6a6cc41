"""The OpenAI routes: any OpenAI client works by changing its base URL."""

from __future__ import annotations

from starlette.routing import Route

from app import openai_answer
from app.exchange import Endpoint, Exchange
from app.gateway import Gateway
from app.parsing import openai_request
from app.submission import submit
from chatbot.via import OPENAI


class OpenAIRoutes:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def routes(self) -> list[Route]:
        traced, complete = self._gateway.traced, Endpoint(self.complete)
        return [
            Route("/v1/chat/completions", traced("/v1/chat/completions", complete), methods=["POST"]),
            Route("/v1/models", Endpoint(self.models), methods=["GET"]),
        ]

    async def complete(self, exchange: Exchange) -> None:
        """Submit and subscribe in one request, through the same stages."""
        gateway = self._gateway
        submitted = await submit(gateway, exchange, OPENAI, openai_request)
        record, asked = submitted.record, submitted.asked
        if openai_answer.fits_at_once(record):
            await openai_answer.at_once(
                exchange, gateway.manager, record, streamed=asked.stream, include_usage=asked.include_usage
            )
        elif asked.stream:
            await openai_answer.stream(
                exchange, gateway.connections, gateway.manager, record, asked.include_usage
            )
        else:
            await openai_answer.whole(exchange, gateway.connections, gateway.manager, record)

    async def models(self, exchange: Exchange) -> None:
        self._gateway.auth.tenant(exchange)
        await exchange.json(200, {"object": "list", "data": await self._gateway.models()})
