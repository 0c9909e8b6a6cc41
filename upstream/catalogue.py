"""The upstream's list of models: kept for a while, fetched once for all who ask, stale while unreachable."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

import msgspec

from runtime.errors import UpstreamBadResponse, UpstreamError, UpstreamRejected, UpstreamUnreachable
from runtime.supervisor import Supervisor
from upstream.endpoint import Endpoint
from upstream.refusals import from_status
from upstream.transport import TransportError

log = logging.getLogger("refrain.upstream")

KEPT_S: Final = 60.0
RETRY_S: Final = 5.0
FETCH_S: Final = 5.0
MAX_BYTES: Final = 4 * 1024 * 1024


class Catalogue:
    """`models()` is the `data` of `GET /models`: objects with at least an `id`."""

    def __init__(self, endpoint: Endpoint, supervisor: Supervisor) -> None:
        self._endpoint = endpoint
        self._supervisor = supervisor
        # State: the last good list, why the latest fetch failed (if it did), when to ask again.
        self._models: list[dict[str, Any]] | None = None
        self._error: UpstreamError | None = None
        self._ask_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    async def models(self) -> list[dict[str, Any]]:
        """The list, renewed behind its callers once a minute. Raises `UpstreamError` if none came yet."""
        if self._fetching is None and asyncio.get_running_loop().time() >= self._ask_at:
            self._fetching = self._supervisor.spawn("upstream:models", self._fetch())
        if self._fetching is not None and self._models is None:
            # A shield: the caller that goes away must not take the list from the others.
            await asyncio.shield(self._fetching)
        if self._models is None:
            raise self._error or UpstreamUnreachable()
        return self._models

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(FETCH_S):
                models = await self._ask()
        except (UpstreamError, TimeoutError) as error:
            self._decided(error if isinstance(error, UpstreamError) else UpstreamUnreachable(), RETRY_S)
            log.warning("the upstream's list of models could not be read", extra={"error": repr(error)})
        else:
            self._models = models
            self._decided(None, KEPT_S)
        finally:
            self._fetching = None

    def _decided(self, error: UpstreamError | None, wait_s: float) -> None:
        self._error = error
        self._ask_at = asyncio.get_running_loop().time() + wait_s

    async def _ask(self) -> list[dict[str, Any]]:
        reply = await self._endpoint.get("/models")
        try:
            body = await reply.read_all(MAX_BYTES)
            if reply.status != 200:
                raise _refused(reply.status)
            return _read(body)
        except TransportError as error:
            raise UpstreamBadResponse from error
        finally:
            reply.close()


def _refused(status: int) -> UpstreamError:
    """A refusal of the list is no verdict on a client's request: a 404 here must not become its 404."""
    error = from_status(status, None, b"")
    return UpstreamBadResponse() if isinstance(error, UpstreamRejected) else error


def _read(body: bytes) -> list[dict[str, Any]]:
    try:
        models = msgspec.json.decode(body)["data"]
        if all(isinstance(model["id"], str) for model in models):
            return list(models)
    except (ValueError, LookupError, TypeError, RecursionError):
        pass
    raise UpstreamBadResponse("The model server's list of models could not be understood.")
