"""What an upstream's refusal becomes: an HTTP status or an in-band error object → one typed error.

Nothing of the upstream's own text is passed on. Its code is kept if this page knows it, the name of
the offending field if it looks like one.
"""

from __future__ import annotations

import re
import time
from email.utils import parsedate_to_datetime
from typing import Any, Final

import msgspec

from runtime.errors import UpstreamAuth, UpstreamError, UpstreamRateLimited, UpstreamRejected
from upstream.errors import UpstreamUnavailable

REJECTED_CODES: Final[dict[str, str]] = {
    # LangChain and LiteLLM tell this case by these words, not by the code; both shorten the prompt then.
    "context_length_exceeded": (
        "This model's maximum context length is exceeded: the request exceeds the context window"
        " (context_length_exceeded)."
    ),
    "string_above_max_length": "A field of the request is longer than the model allows.",
    "array_above_max_length": "A list in the request is longer than the model allows.",
    "model_not_found": "The model does not exist, or the gateway may not use it.",
    "content_filter": "The model's content filter refused this request.",
    "content_policy_violation": "The model's content policy refused this request.",
    "invalid_value": "The model does not accept the value of a field.",
    "invalid_type": "The model does not accept the type of a field.",
    "missing_required_parameter": "The model requires a field that is missing.",
    "unknown_parameter": "The model does not know a field of the request.",
    "unsupported_parameter": "The model does not support a field of the request.",
    "unsupported_value": "The model does not support the value of a field.",
    "integer_above_max_value": "A number in the request is larger than the model allows.",
    "integer_below_min_value": "A number in the request is smaller than the model allows.",
    "decimal_above_max_value": "A number in the request is larger than the model allows.",
    "decimal_below_min_value": "A number in the request is smaller than the model allows.",
    "invalid_image_url": "The model could not use an image of the request.",
}
_RATE_LIMITED: Final = {
    "429",
    "rate_limit_exceeded",
    "rate_limit_error",
    "rate_limited",
    "too_many_requests",
    "insufficient_quota",
    "resource_exhausted",
}
_UNAVAILABLE: Final = {"502", "503", "504", "overloaded_error", "service_unavailable", "unavailable"}
_AUTH: Final = {"401", "403", "invalid_api_key", "authentication_error", "permission_error"}
_PARAM: Final = re.compile(r"[A-Za-z0-9_.\[\]]{1,64}")
_SECONDS: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?", re.ASCII)
MAX_RETRY_AFTER_S: Final = 86_400.0


def from_status(status: int, retry_after: str | None, body: bytes) -> UpstreamError:
    """The error for an answer that is not 200. `body` may be anything, also cut off or empty."""
    if status in (400, 404, 422):
        return _rejected(status, _error_object(body))
    if status in (401, 403):
        return UpstreamAuth()
    if status == 429:
        return UpstreamRateLimited(retry_after=parse_retry_after(retry_after))
    if status in (502, 503, 504):
        return UpstreamUnavailable(retry_after=parse_retry_after(retry_after))
    return UpstreamError(retryable=status >= 500 or status in (408, 409, 425))


def in_band(error: object) -> UpstreamError:
    """The error for the value of a chunk's top-level `error`, whatever its type."""
    fields = error if isinstance(error, dict) else {}
    words = {_word(fields.get(name)) for name in ("code", "type", "status")}
    if words & _RATE_LIMITED:
        return UpstreamRateLimited()
    if words & _UNAVAILABLE:
        return UpstreamUnavailable()
    if words & _AUTH:
        return UpstreamAuth()
    if words & REJECTED_CODES.keys():
        return _rejected(400, fields)
    return UpstreamError()


def parse_retry_after(value: str | None, now: float | None = None) -> float | None:
    """Seconds from now, from a number or an HTTP date, at most a day; None for garbage or the past."""
    if value is None:
        return None
    value = value.strip()
    if _SECONDS.fullmatch(value):
        seconds = float(value)
    else:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - (time.time() if now is None else now)
        except (ValueError, OverflowError, OSError):
            return None
    return min(seconds, MAX_RETRY_AFTER_S) if seconds >= 0 else None


def _rejected(status: int, fields: dict[str, Any]) -> UpstreamRejected:
    words = [_word(fields.get(name)) for name in ("code", "type")]
    code = next((word for word in words if word in REJECTED_CODES), None)
    param = fields.get("param")
    if not (isinstance(param, str) and _PARAM.fullmatch(param)):
        param = None
    message = REJECTED_CODES[code] if code else None
    return UpstreamRejected(message, code=code, param=param, status=status)


def _error_object(body: bytes) -> dict[str, Any]:
    try:
        decoded = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return {}
    error = decoded.get("error") if isinstance(decoded, dict) else None
    return error if isinstance(error, dict) else {}


def _word(value: object) -> str:
    if isinstance(value, int) and 0 <= value < 1000:
        return str(value)
    return value.lower() if isinstance(value, str) and len(value) <= 64 else ""
