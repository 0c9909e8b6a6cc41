"""The operator's preparation hook: POST the canonical request, go on with what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from runtime.errors import PrepareFailed
from upstream.transport import Transport, TransportError

MAX_ANSWER_BYTES: Final = 20 * 1024 * 1024
CONNECT_S: Final = 10.0
_HEADERS: Final = {"Accept": "application/json", "Content-Type": "application/json"}


class HookAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the hook says. `messages` replace the request's; `model` does if it is given.

    `store` false keeps the answer out of the cache, `ttl_s` (seconds) is how long it may stay in it.
    """

    messages: Annotated[list[dict[str, Any]], Meta(min_length=1)]
    model: Annotated[str, Meta(min_length=1)] | None = None
    store: bool = True
    ttl_s: Annotated[float, Meta(ge=0)] | None = None


class PreparationHook:
    """The hook at `url`, spoken to over at most `connections` connections of its own."""

    def __init__(self, url: str, connections: int) -> None:
        self._url = url
        # Fresh connections: a kept one that the hook closes just now would fail a request for nothing,
        # and a hook, unlike a model, may not be asked twice.
        self._transport = Transport(connections, CONNECT_S, keep_alive=False)

    def __repr__(self) -> str:
        return f"<PreparationHook {self._transport!r}>"

    async def prepare(self, canonical: Mapping[str, Any]) -> HookAnswer:
        """Ask the hook. Raises `PrepareFailed` for any answer but a 2xx with a valid body.

        It has no time limit: the caller bounds it. Cancelling closes the connection at once.
        """
        try:
            reply = await self._transport.send("POST", self._url, _HEADERS, _encoded(canonical))
            try:
                if not 200 <= reply.status < 300:
                    raise PrepareFailed
                return _read(await reply.read_all(MAX_ANSWER_BYTES))
            finally:
                reply.close()
        except TransportError as error:
            raise PrepareFailed from error

    async def close(self) -> None:
        """Close its connections. Idempotent."""
        await self._transport.close()


def _encoded(canonical: Mapping[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(canonical)
    except (TypeError, ValueError, OverflowError, RecursionError):
        raise PrepareFailed("The request holds a value that JSON cannot carry.") from None


def _read(body: bytes) -> HookAnswer:
    try:
        answer = msgspec.json.decode(body, type=HookAnswer)
    except (ValueError, RecursionError):
        raise PrepareFailed("The preparation hook's answer is not valid.") from None
    if not all(isinstance(message.get("role"), str) for message in answer.messages):
        raise PrepareFailed("The preparation hook's answer has a message without a role.")
    return answer
