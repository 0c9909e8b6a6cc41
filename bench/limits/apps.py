"""Servers without an upstream: what Python and its frameworks cost by themselves, on one core.

`hello` is raw ASGI with a fixed answer. `fastapi_model` is a bare FastAPI app whose POST takes a chat
body and gives a model back. `subscribe_log` and `subscribe_sse` hold SSE subscribers that wait: one
shared log with a future each, and sse-starlette with a queue each.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI
from pydantic import BaseModel
from sse_starlette.sse import EventSourceResponse
from starlette.types import Receive, Scope, Send

JSON = [(b"content-type", b"application/json")]
SSE = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]


async def lifespan(receive: Receive, send: Send) -> None:
    """The ASGI lifespan protocol with nothing to do in it."""
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def read_body(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    return body


async def until_gone(receive: Receive) -> None:
    """uvicorn's send() is silent once the client has left: only this tells."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    body = b'{"hello":"you"}'
    headers = [*JSON, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


# -- a bare FastAPI app ---------------------------------------------------------------------
class ChatMessage(BaseModel):
    role: str
    content: str


class Chat(BaseModel):
    model: str
    messages: list[ChatMessage]
    stream: bool = False
    temperature: float | None = None


class Reply(BaseModel):
    id: str
    model: str
    content: str


fastapi_model = FastAPI()


@fastapi_model.post("/v1/chat/completions")
async def chat(body: Chat) -> Reply:
    return Reply(id="x", model=body.model, content=body.messages[-1].content)


# -- subscribers that wait ------------------------------------------------------------------
_waiting: set[asyncio.Future[None]] = set()


async def subscribe_log(scope: Scope, receive: Receive, send: Send) -> None:
    """As little as a subscriber can be in asyncio: its request's task, a future, a watch on the client."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": SSE})
    await send({"type": "http.response.body", "body": b": hello\n\n", "more_body": True})
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(_wait_for_ever())
        await until_gone(receive)
        reading.cancel()


async def _wait_for_ever() -> None:
    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    _waiting.add(waiter)
    try:
        await waiter
    finally:
        _waiting.discard(waiter)


subscribe_sse = FastAPI()


@subscribe_sse.get("/")
async def subscribe() -> EventSourceResponse:
    queue: asyncio.Queue[str] = asyncio.Queue(1000)

    async def events() -> AsyncIterator[str]:
        yield "hello"
        while True:
            yield await queue.get()

    return EventSourceResponse(events())
