"""A client of the gateway: what a user of each wire does, in one line each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import aiohttp

from tests.system.sse import Event, Reader

TERMINAL = ("done", "failed", "cancelled")


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]


@dataclass
class Stream:
    """A native stream that was read to its end (or to where it was cut)."""

    status: int
    headers: dict[str, str]
    events: list[Event] = field(default_factory=list)
    reader: Reader = field(default_factory=Reader)
    first_id: str = ""

    @property
    def text(self) -> str:
        """As a client shows it: `reset` voids what came before."""
        text = ""
        for event in self.events:
            if event.name == "reset":
                text = ""
            elif event.name == "delta":
                text += event.json["text"]
        return text

    @property
    def statuses(self) -> list[str]:
        return [event.json["status"] for event in self.events if event.name == "status"]

    @property
    def terminals(self) -> list[Event]:
        return [event for event in self.events if event.name in TERMINAL]

    @property
    def end(self) -> Event:
        """The one terminal event; it is the last."""
        assert len(self.terminals) == 1, self.events[-3:]
        assert self.events[-1] is self.terminals[0]
        return self.terminals[0]


class Client:
    """`async with Client(gateway.url) as client`. `key` is a tenant's API key."""

    def __init__(self, url: str, key: str | None = None) -> None:
        self._url = url
        self._headers = {"authorization": f"Bearer {key}"} if key else {}

    async def __aenter__(self) -> Self:
        self.http = aiohttp.ClientSession(
            self._url,
            headers=self._headers,
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=60),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.http.close()

    async def call(self, method: str, path: str, **options: Any) -> Reply:
        async with self.http.request(method, path, **options) as reply:
            return Reply(reply.status, _lower(reply.headers), await reply.read())

    # -- native -------------------------------------------------------------------------------
    async def submit(self, message: str, *, headers: dict[str, str] | None = None, **fields: Any) -> Reply:
        return await self.call("POST", "/chat", json={"message": message, **fields}, headers=headers)

    async def record(self, id: str) -> Any:
        return (await self.call("GET", f"/chat/{id}")).json

    async def cancel(self, id: str) -> Reply:
        return await self.call("POST", f"/chat/{id}/cancel")

    @asynccontextmanager
    async def listening(
        self, url: str, *, last_event_id: str | None = None
    ) -> AsyncIterator[tuple[aiohttp.ClientResponse, AsyncIterator[Event], Reader]]:
        """An open stream: leave the block to drop it."""
        headers = {"last-event-id": last_event_id} if last_event_id else None
        reader = Reader()
        async with self.http.get(url, headers=headers) as reply:

            async def events() -> AsyncIterator[Event]:
                async for chunk in reply.content.iter_any():
                    for event in reader.feed(chunk):
                        yield event

            yield reply, events(), reader

    async def stream(self, url: str, *, last_event_id: str | None = None) -> Stream:
        """Read a stream to its end."""
        async with self.listening(url, last_event_id=last_event_id) as (reply, events, reader):
            stream = Stream(reply.status, _lower(reply.headers), reader=reader)
            async for event in events:
                stream.events.append(event)
            return stream

    async def ask(self, message: str, **fields: Any) -> Stream:
        """Submit and read to the end."""
        accepted = await self.submit(message, **fields)
        assert accepted.status in (200, 202), accepted.body
        return await self.stream(accepted.json["stream_url"])

    async def until_status(self, id: str, *statuses: str, within: float = 20.0) -> Any:
        """Poll the record until it shows one of these."""
        async with asyncio.timeout(within):
            while (record := await self.record(id))["status"] not in statuses:
                await asyncio.sleep(0.01)
        return record

    # -- OpenAI -------------------------------------------------------------------------------
    async def complete(self, message: str, *, headers: dict[str, str] | None = None, **fields: Any) -> Reply:
        body = {"messages": [{"role": "user", "content": message}], **fields}
        return await self.call("POST", "/v1/chat/completions", json=body, headers=headers)

    async def chunks(self, message: str, **fields: Any) -> tuple[Reply, list[Any]]:
        """A streamed completion: the reply, and its data frames parsed (`[DONE]` as that string)."""
        reply = await self.complete(message, stream=True, **fields)
        frames = [event.data for event in Reader().feed(reply.body)]
        return reply, [frame if frame == "[DONE]" else json.loads(frame) for frame in frames]


def text_of(frames: list[Any]) -> str:
    """The text of OpenAI chunks."""
    chunks = [frame for frame in frames if isinstance(frame, dict)]
    return "".join(
        choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.get("choices", ())
    )


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
