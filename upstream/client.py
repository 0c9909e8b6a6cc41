"""ModelClient: every call of a model, made under a permit and bounded in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from runtime.errors import (
    FirstTokenTimeout,
    InvalidRequest,
    UpstreamBadResponse,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamRejected,
)
from runtime.supervisor import Supervisor
from upstream.answer import Answer
from upstream.catalogue import Catalogue
from upstream.chunk import Chunk
from upstream.deadlines import Deadlines, Timeouts
from upstream.endpoint import Endpoint
from upstream.permit import LlmPermit, require
from upstream.refusals import from_status
from upstream.transport import Reply, Transport, TransportError

DRAIN_S: Final = 0.25
ERROR_BODY_S: Final = 2.0
ERROR_BODY_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class ClientStats:
    """`connections` is the size of the pool, `in_flight` the streamed calls that run now."""

    connections: int
    in_flight: int


class ModelClient:
    """One upstream. `on_call` is told how each streamed call ended.

    That is one of `completed`, `failed`, `rate_limited`, `rejected`, and `aborted` for a call that
    its owner left before the end.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        supervisor: Supervisor,
        connections: int = 84,
        timeouts: Timeouts | None = None,
        cumulative: bool = False,
        on_call: Callable[[str], None] = lambda outcome: None,
    ) -> None:
        self._timeouts = timeouts or Timeouts()
        self._transport = Transport(connections, self._timeouts.connect)
        self._endpoint = Endpoint(base_url, api_key, self._transport)
        self._catalogue = Catalogue(self._endpoint, supervisor)
        self._cumulative = cumulative
        self._on_call = on_call
        self._in_flight = 0

    def __repr__(self) -> str:
        return f"<ModelClient {self._endpoint!r} {self._in_flight} in flight>"

    @asynccontextmanager
    async def stream(
        self, permit: LlmPermit, body: Mapping[str, Any]
    ) -> AsyncIterator[AsyncIterator[list[Chunk]]]:
        """Make one call; yields an iterator over lists of chunks that ends only if the answer is complete.

        `body` is a chat completion request; `stream` and `stream_options` are set here. Raises
        `PermitRequired`, or an `UpstreamError` on entering or while iterating. Leaving the block
        before the end closes the upstream connection at once.
        """
        require(permit)
        request = _encoded(body)
        deadlines = Deadlines(asyncio.get_running_loop().time(), self._timeouts)
        with self._counted() as call:
            try:
                async with self._answering(request, deadlines, call) as answer:
                    yield answer
            except BaseException:
                # The socket of a call that was cut closes a turn of the loop later. Until then the
                # permit is not free: the next call could reach the upstream before this one's end.
                await asyncio.sleep(0)
                raise

    async def models(self) -> list[dict[str, Any]]:
        """The upstream's models, each with an `id`. Raises `UpstreamError` if none were ever read."""
        return await self._catalogue.models()

    async def default_model(self) -> str:
        """The `id` of the upstream's first model. Raises `UpstreamError` as `models` does, or without one."""
        models = await self.models()
        if not models:
            raise UpstreamBadResponse("The model server offers no model.")
        name: str = models[0]["id"]
        return name

    async def reachable(self) -> bool:
        """Whether the upstream took part in a call, or a TCP connect, in the last seconds. Never raises."""
        return await self._endpoint.reach.reachable()

    def stats(self) -> ClientStats:
        return ClientStats(self._transport.connections, self._in_flight)

    async def close(self) -> None:
        """Close the pool; calls that still run fail as truncated. Idempotent."""
        await self._transport.close()

    @asynccontextmanager
    async def _answering(self, request: bytes, deadlines: Deadlines, call: _Call) -> AsyncIterator[Answer]:
        reply = await self._open(request, deadlines)
        answer = None
        try:
            await _check(reply)
            answer = call.answer = Answer(reply, deadlines, cumulative=self._cumulative)
            yield answer
            if answer.complete:
                # The rest of an answer that is over is usually there already. Reading it lets the
                # connection serve again; the caller has long seen the end.
                await reply.drain(DRAIN_S)
        finally:
            if answer is not None:
                answer.close()
            reply.close()

    async def _open(self, request: bytes, deadlines: Deadlines) -> Reply:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(deadlines.due()):
                return await self._endpoint.post("/chat/completions", request)
        except TimeoutError:
            raise deadlines.expired(loop.time()) or FirstTokenTimeout() from None

    @contextmanager
    def _counted(self) -> Iterator[_Call]:
        call = _Call()
        failure: UpstreamError | None = None
        self._in_flight += 1
        try:
            yield call
        except UpstreamError as error:
            failure = error
            raise
        finally:
            self._in_flight -= 1
            self._on_call(_outcome(call.answer, failure))


class _Call:
    """What became of one call, for its count."""

    answer: Answer | None = None


def _outcome(answer: Answer | None, failure: UpstreamError | None) -> str:
    if answer is not None:
        if answer.complete:
            return "completed"
        failure = failure or answer.error
    if failure is None:
        return "aborted"
    if isinstance(failure, UpstreamRateLimited):
        return "rate_limited"
    return "rejected" if isinstance(failure, UpstreamRejected) else "failed"


def _encoded(body: Mapping[str, Any]) -> bytes:
    try:
        return msgspec.json.encode({**body, "stream": True, "stream_options": {"include_usage": True}})
    except (TypeError, ValueError, OverflowError, RecursionError):
        raise InvalidRequest("The request holds a value that JSON cannot carry.") from None


async def _check(reply: Reply) -> None:
    """Raise the error that the status or the type of `reply` stands for."""
    if reply.status != 200:
        raise from_status(reply.status, reply.header("Retry-After"), await _error_body(reply))
    kind = (reply.header("Content-Type") or "").partition(";")[0].strip().lower()
    coding = (reply.header("Content-Encoding") or "identity").strip().lower()
    # Not every server names its event stream as one; what is none will not parse as one either.
    if kind in ("application/json", "text/html") or coding != "identity":
        raise UpstreamBadResponse("The model did not answer with an event stream.")


async def _error_body(reply: Reply) -> bytes:
    """The body of a refusal, as far as it is short and comes quickly: only its code is of interest."""
    try:
        async with asyncio.timeout(ERROR_BODY_S):
            return await reply.read_all(ERROR_BODY_BYTES)
    except (TransportError, TimeoutError):
        return b""
