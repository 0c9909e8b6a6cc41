"""Between a led broadcast and the relay that owns it: what is asked, and how an end is told to others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from broadcast.broadcast import Broadcast
from broadcast.outcome import Outcome
from cache.flights import Hit, SharedFlights
from cache.views import View
from runtime.errors import GatewayError, LeaderLost, SubscribeTimeout
from upstream.chunk import Chunk

if TYPE_CHECKING:
    from broadcast.leading import Leading

_decoder = msgspec.json.Decoder(dict[str, Any])


class Owner(Protocol):
    """What a Leading asks of the relay."""

    flights: SharedFlights

    def body_of(self, broadcast: Broadcast[Chunk]) -> bytes:
        """Its canonical request, where any process is to be able to go on; else empty."""

    def eta_s(self, broadcast: Broadcast[Chunk]) -> float | None: ...

    def overruled(self, leading: Leading, found: View | Hit | None) -> None:
        """Somebody else leads, or has answered; nothing known more than that if None."""


@dataclass(frozen=True, slots=True)
class Finish:
    """How it ended. `value`: what the cache is to hold, for `ttl_ms`."""

    how: str
    payload: bytes
    value: bytes = b""
    ttl_ms: int = 0


def error_from(payload: bytes, outcome: Outcome = Outcome.FAILED) -> GatewayError:
    """What is told of an end that was no success; where nothing is told, what such an end means."""
    try:
        told = _decoder.decode(payload)
        return GatewayError(
            str(told["message"]),
            code=str(told["code"]),
            retryable=bool(told["retryable"]),
            status=int(told["status"]) if told.get("status") else None,
            retry_after=float(told["retry_after"]) if told.get("retry_after") else None,
        )
    except (msgspec.MsgspecError, KeyError, ValueError, TypeError):
        return SubscribeTimeout() if outcome is Outcome.EXPIRED else LeaderLost()


def payload_of(error: GatewayError | None, reason: str | None = None) -> bytes:
    """The counterpart of `error_from`."""
    if error is None:
        return msgspec.json.encode({"reason": reason} if reason else {})
    told = {"code": error.code, "message": error.message, "retryable": error.retryable}
    return msgspec.json.encode({**told, "status": error.status, "retry_after": error.retry_after})
