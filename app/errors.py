"""Error codes become HTTP here, and nowhere else. docs/errors.md is this table's twin."""

from __future__ import annotations

import math
import random
from typing import Any, Final

import msgspec

from runtime.errors import ConversationBusy, GatewayError

STATUS: Final[dict[str, int]] = {
    "malformed_request": 400,
    "bad_cursor": 400,
    "invalid_api_key": 401,
    "not_found": 404,
    "method_not_allowed": 405,
    "body_timeout": 408,
    "conflict": 409,
    "cancelled": 409,
    "conversation_busy": 409,
    "history_gone": 410,
    "body_too_large": 413,
    "unsupported_media_type": 415,
    "invalid_request": 422,
    "queue_full": 429,
    "queue_timeout": 429,
    "headers_too_large": 431,
    "internal_error": 500,
    "prepare_failed": 502,
    "upstream_auth": 502,
    "upstream_bad_response": 502,
    "upstream_error": 502,
    "upstream_truncated": 502,
    "conversation_unavailable": 503,
    "draining": 503,
    "leader_lost": 503,
    "state_unavailable": 503,
    "worker_lost": 503,
    "upstream_rate_limited": 503,
    "upstream_unreachable": 503,
    "upstream_rejected": 400,  # where the upstream's own 400, 404 or 422 did not come with it
    "first_token_timeout": 504,
    "not_cached": 504,
    "prepare_timeout": 504,
    "slot_timeout": 504,
    "stream_idle_timeout": 504,
    "stream_timeout": 504,
    "subscribe_timeout": 504,
}


class Cancelled(GatewayError):
    """The request was cancelled by its id while its caller waited for the answer."""

    code, message = "cancelled", "This request was cancelled."


def status_of(error: GatewayError) -> int:
    return error.status or STATUS.get(error.code, 502)


def body_of(error: GatewayError) -> bytes:
    """The OpenAI error object, as JSON."""
    return msgspec.json.encode({"error": error_object(error)})


def error_object(error: GatewayError) -> dict[str, Any]:
    return {
        "message": error.message,
        "type": _type(status_of(error)),
        "param": error.param,
        "code": error.code,
    }


def headers_of(error: GatewayError) -> list[tuple[bytes, bytes]]:
    """What goes with the status: when to come back, why, and whether it makes sense at all."""
    status = status_of(error)
    headers = []
    if isinstance(error, ConversationBusy):
        headers.append((b"x-refrain-reason", error.code.encode()))
    if status in (429, 503):
        headers += [(b"retry-after", b"%d" % _retry_after(error)), (b"x-refrain-reason", error.code.encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if not error.retryable:
        headers.append((b"x-should-retry", b"false"))
    return headers


def _retry_after(error: GatewayError) -> int:
    """Whole seconds, at least one; jittered upwards, so that the refused do not come back as a herd."""
    seconds = max(1.0, error.retry_after or 1.0)
    return math.ceil(seconds * random.uniform(1.0, 1.25))


def _type(status: int) -> str:
    if status == 401:
        return "authentication_error"
    if status == 429:
        return "rate_limit_error"
    return "invalid_request_error" if status < 500 else "server_error"
