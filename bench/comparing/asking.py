"""One caller of the OpenAI wire, and the simulated model."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from bench.comparing.peers import Peer
from bench.harness.servers import UPSTREAM

PATIENCE_S: Final = 90.0
LOOK_EVERY_S: Final = 0.005
_NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def model(**settings: object) -> None:
    """How `refrain sim` answers from now on, its counts forgotten."""
    query = "&".join(f"{name}={value}" for name, value in settings.items())
    for path in ("/reset", f"/config?{query}"):
        _NO_PROXY.open(f"{UPSTREAM}{path}", data=b"", timeout=10).close()


def counts() -> dict[str, int]:
    """Its own: `calls`, `in_flight`, `completed`, `aborted`, `rate_limited`."""
    with _NO_PROXY.open(f"{UPSTREAM}/stats", timeout=10) as reply:
        found: dict[str, int] = json.load(reply)
        return found


@dataclass
class Caller:
    """Asks one question; times are seconds since it asked, None for what never came."""

    peer: Peer
    question: str
    stream: bool = True
    limited: bool = False
    status: int = 0
    first_s: float | None = None
    whole: bool = False
    retry_after: str | None = None
    pieces: int = 0
    _begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, session: aiohttp.ClientSession) -> None:
        """Until the answer has ended, or this is cancelled: the connection is closed then."""
        asked = time.monotonic()
        url = self.peer.limited if self.limited else self.peer.url
        try:
            async with asyncio.timeout(PATIENCE_S):
                async with session.post(url, json=self._body(), headers=self.peer.headers) as reply:
                    self.status = reply.status
                    self.retry_after = reply.headers.get("retry-after")
                    await self._read(reply, asked)
        except (aiohttp.ClientError, TimeoutError):
            self.whole = False

    async def begun(self, within: float) -> None:
        """Until the first text is there, or that time is over."""
        try:
            async with asyncio.timeout(within):
                await self._begun.wait()
        except TimeoutError:
            return

    def _body(self) -> dict[str, Any]:
        model = self.peer.limited_model if self.limited else "sim"
        messages = [{"role": "user", "content": self.question}]
        return {"model": model, "messages": messages, "stream": self.stream}

    async def _read(self, reply: aiohttp.ClientResponse, asked: float) -> None:
        tail = b""
        async for piece in reply.content.iter_any():
            tail = (tail + piece)[-4096:]
            self.pieces += piece.count(b'"content"')
            if self.first_s is None and self.pieces:
                self.first_s = time.monotonic() - asked
                self._begun.set()
        self.whole = reply.status == 200 and (b"[DONE]" in tail or not self.stream)
