"""The body of one streamed answer: socket reads → lists of chunks → complete, or a typed error."""

from __future__ import annotations

import asyncio
from typing import Final, Self

from runtime.errors import UpstreamError, UpstreamTruncated
from upstream.chunk import Chunk, parse_chunk
from upstream.cumulative import Cumulative
from upstream.deadlines import Deadlines, Watchdog
from upstream.parser import SSEParser
from upstream.transport import BrokenReply, Reply

_DONE: Final = b"[DONE]"


class Answer:
    """Iterates over the chunks, one list per read of the socket.

    It ends only if the answer is complete: a finish reason for every choice seen, and then either
    `[DONE]` or an orderly end of the body. Otherwise it raises an `UpstreamError`, after everything
    that arrived before the failure has been handed out.
    """

    def __init__(self, reply: Reply, deadlines: Deadlines, *, cumulative: bool) -> None:
        self.marked = False  #: `[DONE]` came
        self.complete = False
        self.error: UpstreamError | None = None
        self._reply = reply
        self._parser = SSEParser()
        self._deadlines = deadlines
        self._cumulative = Cumulative() if cumulative else None
        self._seen: set[int] = set()
        self._finished: set[int] = set()
        self._clock = asyncio.get_running_loop().time
        self._watchdog = Watchdog(deadlines, reply.fail)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Chunk]:
        while not (self.complete or self.error):
            try:
                data = await self._reply.read()
            except BrokenReply:
                self._fail(UpstreamTruncated())
            except UpstreamError as error:  # the watchdog's
                self._fail(error)
            else:
                if batch := self._take(data):
                    return batch
        if self.error is not None:
            raise self.error
        raise StopAsyncIteration

    def close(self) -> None:
        """Stop the timer. Idempotent."""
        self._watchdog.stop()

    def _take(self, data: bytes) -> list[Chunk]:
        """Decide, without waiting, what one read means."""
        batch: list[Chunk] = []
        content = False
        try:
            for payload in self._parser.feed(data):
                if payload.startswith(_DONE):
                    self.marked = True
                    self._end()
                    break
                if not payload or payload.isspace():
                    continue
                chunk = self._chunk(payload)
                content = content or chunk.content
                batch.append(chunk)
            if not data:
                self._end_of_body()
        except UpstreamError as error:
            self._fail(error)
        if batch:
            self._deadlines.progress(self._clock(), content)
        return batch

    def _chunk(self, payload: bytes) -> Chunk:
        chunk = parse_chunk(payload)
        if self._cumulative is not None:
            chunk = self._cumulative.growth(chunk)
        self._seen.update(chunk.seen)
        self._finished.update(chunk.finished)
        return chunk

    def _end_of_body(self) -> None:
        cut_off = self._parser.finish()
        if cut_off is not None and not cut_off.startswith(_DONE):
            raise UpstreamTruncated
        self.marked = cut_off is not None
        self._end()

    def _end(self) -> None:
        if not self._seen or self._seen - self._finished:
            raise UpstreamTruncated
        self.complete = True
        self._watchdog.stop()

    def _fail(self, error: UpstreamError) -> None:
        self.error = error
        self._watchdog.stop()
