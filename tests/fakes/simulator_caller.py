"""Calls an ASGI application by hand: sees every message as it is sent, and can leave at any moment."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from upstream.simulator import Behaviour, create_simulator
from upstream.simulator.app import Simulator

# Only there to turn a hang into a failure; no promise is measured against it. Longer than what a test on
# virtual time may let pass.
_PATIENCE_S = 100


class Caller:
    """One request and what has come back so far."""

    def __init__(self, method: str, target: str, body: bytes) -> None:
        url = urlsplit(target)
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": url.path,
            "query_string": url.query.encode(),
            "headers": [],
            "client": ("127.0.0.1", 50_000),
        }
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.writes: list[bytes] = []
        self.ended = False
        self.returned = False
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._incoming.put_nowait({"type": "http.request", "body": body, "more_body": False})
        self._changed = asyncio.Condition()

    async def receive(self) -> dict[str, Any]:
        return await self._incoming.get()

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])
        else:
            self.writes += [message["body"]] if message["body"] else []
            self.ended = not message["more_body"]
        await self.note()

    async def note(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def leave(self) -> None:
        """Close the connection."""
        self._incoming.put_nowait({"type": "http.disconnect"})

    async def until(self, predicate: Callable[[], bool]) -> None:
        """Wait for a state that this call's messages, or its end, bring about."""
        async with asyncio.timeout(_PATIENCE_S), self._changed:
            await self._changed.wait_for(predicate)

    async def finished(self) -> None:
        await self.until(lambda: self.returned)

    @property
    def body(self) -> bytes:
        return b"".join(self.writes)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[str]:
        """The data of every whole event so far."""
        return [event.removeprefix("data: ") for event in self.body.decode().split("\n\n")[:-1]]

    @property
    def chunks(self) -> list[Any]:
        return [json.loads(event) for event in self.events if event != "[DONE]"]

    def deltas(self, field: str = "content") -> list[Any]:
        """The non-empty values of one field of choice 0's deltas, in order."""
        deltas = [chunk["choices"][0]["delta"] for chunk in self.chunks if chunk.get("choices")]
        return [delta[field] for delta in deltas if delta.get(field)]

    @property
    def finish_reasons(self) -> list[str]:
        reasons = [c["choices"][0]["finish_reason"] for c in self.chunks if c.get("choices")]
        return [reason for reason in reasons if reason]


class Sim:
    """A simulator and the means to call it. Unpaced unless the behaviour given says otherwise."""

    def __init__(self, **behaviour: Any) -> None:
        self.app: Simulator = create_simulator(Behaviour(**{"ttft": 0, "tps": 0, **behaviour}))

    @asynccontextmanager
    async def open(self, method: str, target: str, value: Any = None) -> AsyncIterator[Caller]:
        """A call that runs inside the block; the client leaves at the block's end."""
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        caller = Caller(method, target, body)

        async def run() -> None:
            await self.app(caller.scope, caller.receive, caller.send)
            caller.returned = True
            await caller.note()

        async with asyncio.TaskGroup() as group:
            group.create_task(run())
            yield caller
            caller.leave()

    async def call(self, method: str, target: str, value: Any = None) -> Caller:
        """A call that is waited for."""
        async with self.open(method, target, value) as caller:
            await caller.finished()
        return caller

    async def chat(self, text: str, **fields: Any) -> Caller:
        return await self.call("POST", "/v1/chat/completions", chat_body(text, **fields))

    async def get(self, target: str) -> Any:
        return (await self.call("GET", target)).json

    async def stats(self) -> Any:
        return await self.get("/stats")


def chat_body(text: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "stream": True, **fields}
