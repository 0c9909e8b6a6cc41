"""What processes tell each other of a request: what it is, and how it ended. JSON, in `q:<id>`."""

from __future__ import annotations

import msgspec

from broadcast.outcome import End, Outcome
from chatbot.record import CacheResult, Record
from chatbot.ticket import Ticket
from runtime.errors import GatewayError


class About(msgspec.Struct, array_like=True):
    """Fixed at its admission. `cache` and `ttl_s` say what its Cache-Status is."""

    tenant: str
    key: str
    created_at: float
    priority: str
    native: bool
    route: str
    cache: str
    ttl_s: float | None = None
    traceparent: str = ""


class Ended(msgspec.Struct, omit_defaults=True):
    """`shared`: it ended with its broadcast. `events`: how many of the log are its own, None: all."""

    outcome: str
    shared: bool = True
    code: str | None = None
    message: str | None = None
    retryable: bool = False
    status: int | None = None
    retry_after: float | None = None
    reason: str | None = None
    events: int | None = None
    timings: dict[str, int | None] = msgspec.field(default_factory=dict)

    @property
    def error(self) -> GatewayError | None:
        if self.code is None:
            return None
        return GatewayError(
            self.message,
            code=self.code,
            retryable=self.retryable,
            status=self.status,
            retry_after=self.retry_after,
        )


_encoder = msgspec.json.Encoder()
_about = msgspec.json.Decoder(About)
_ended = msgspec.json.Decoder(Ended)


def about(record: Record) -> bytes:
    ticket = record.ticket
    key = record.broadcast.key or ""
    said = About(
        ticket.tenant,
        key,
        ticket.created_at,
        ticket.priority.value,
        record.native,
        record.route,
        record.cache.value,
        record.hit_ttl_s,
        ticket.traceparent,
    )
    return _encoder.encode(said)


def hit() -> bytes:
    """The end of a request that the cache has answered."""
    return _encoder.encode(Ended(Outcome.COMPLETED.value))


def about_unborn(ticket: Ticket, key: str, route: str, *, native: bool) -> bytes:
    """Of a request whose role its own look-up decides; CacheResult follows from the role."""
    about = About(
        ticket.tenant,
        key,
        ticket.created_at,
        ticket.priority.value,
        native,
        route,
        "",
        traceparent=ticket.traceparent,
    )
    return _encoder.encode(about)


def ended(record: Record) -> bytes:
    end = record.claim.ended
    assert end is not None
    return _encoder.encode(
        Ended(
            end.outcome.value,
            end.shared,
            *_error(end.error),
            end.reason,
            len(record.broadcast.log) if record.events_at_end is None else record.events_at_end,
            record.timings(),
        )
    )


def ended_with(error: GatewayError) -> bytes:
    """The end of a request that no process holds any more."""
    return _encoder.encode(Ended(Outcome.FAILED.value, True, *_error(error)))


def ended_as(end: End, events: int) -> bytes:
    """An end that all share, as a reader elsewhere is about to be told it; its times its owner says."""
    return _encoder.encode(Ended(end.outcome.value, True, *_error(end.error), end.reason, events))


def cancelled(reason: str, events: int) -> bytes:
    """Its client's own wish, told to a process that did not admit it. What it had by then is its own."""
    return _encoder.encode(Ended(Outcome.CANCELLED.value, shared=False, reason=reason, events=events))


def read_about(raw: bytes) -> About:
    """Raises msgspec.MsgspecError."""
    return _about.decode(raw)


def read_ended(raw: bytes) -> Ended:
    """Raises msgspec.MsgspecError."""
    return _ended.decode(raw)


def end_of(told: Ended, at: float) -> End:
    return End(Outcome(told.outcome), at, told.shared, error=told.error, reason=told.reason)


def cache_of(said: About, role: str) -> CacheResult:
    if said.cache:
        return CacheResult(said.cache)
    return {"cached": CacheResult.HIT, "follower": CacheResult.COALESCED}.get(role, CacheResult.MISS)


def _error(error: GatewayError | None) -> tuple[str | None, str | None, bool, int | None, float | None]:
    if error is None:
        return None, None, False, None, None
    return error.code, error.message, error.retryable, error.status, error.retry_after
