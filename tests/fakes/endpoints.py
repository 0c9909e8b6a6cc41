"""HTTP endpoints that are played by the test."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager

from upstream.endpoints import EndpointFailed


class FakeReply:
    def __init__(self, status: int, body: list[bytes | EndpointFailed]) -> None:
        self.status = status
        self._body = body

    async def pieces(self, limit: int) -> AsyncGenerator[bytes, None]:
        for piece in self._body:
            if isinstance(piece, EndpointFailed):
                raise piece
            yield piece


class FakeHttp:
    """Answers with what is in `replies`, one after the other, then `fine`. `open`: how many are read now."""

    def __init__(self, *replies: tuple[int, list[bytes | EndpointFailed]] | EndpointFailed) -> None:
        self._replies = list(replies)
        self.asked: list[tuple[str, str, bytes | None]] = []
        self.headers: list[Mapping[str, str]] = []
        self.open = 0

    @asynccontextmanager
    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> AsyncIterator[FakeReply]:
        self.asked.append((method, url, body))
        self.headers.append(headers)
        reply = self._replies.pop(0) if self._replies else (200, [b"fine"])
        if isinstance(reply, EndpointFailed):
            raise reply
        self.open += 1
        try:
            yield FakeReply(reply[0], list(reply[1]))
        finally:
            self.open -= 1
