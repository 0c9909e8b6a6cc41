"""The root of every error that a client may see, and the closed catalogue of its codes.

An error is a type with a stable `code`. What HTTP status it becomes is decided once, at the edge
(`app/errors.py`); what it means to a person stands in docs/errors.md, which a test keeps in step.
"""

from __future__ import annotations


class GatewayError(Exception):
    """Something a client is told about.

    `code` is stable and machine-readable, `retryable` says whether the same request may succeed
    later, `retry_after` is in seconds, `param` names the offending request field. `status` is set
    only where the upstream's own status is kept (400, 404, 422). The message is our own text: never
    a path, a stack, an upstream body or a secret.
    """

    code = "internal_error"
    message = "The gateway failed to handle this request."
    retryable = False

    def __init__(
        self,
        message: str | None = None,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        status: int | None = None,
        retryable: bool | None = None,
    ) -> None:
        self.code = code or type(self).code
        self.message = message or type(self).message
        self.param = param
        self.retry_after = retry_after
        self.status = status
        self.retryable = type(self).retryable if retryable is None else retryable
        super().__init__(self.message)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.code}: {self.message}>"


# -- the request itself ---------------------------------------------------------------------
class MalformedRequest(GatewayError):
    code, message = "malformed_request", "The request body is not valid JSON."


class InvalidRequest(GatewayError):
    code, message = "invalid_request", "The request is well-formed but not valid."


class BodyTooLarge(GatewayError):
    code, message = "body_too_large", "The request body is larger than this gateway accepts."


class UnsupportedMediaType(GatewayError):
    code, message = "unsupported_media_type", "Send the body as application/json."


class BodyTimeout(GatewayError):
    code, message, retryable = "body_timeout", "The request body did not arrive in time.", True


class Unauthorized(GatewayError):
    code, message = "invalid_api_key", "A valid API key is required."


class NotFound(GatewayError):
    code, message = "not_found", "There is no such resource."


class MethodNotAllowed(GatewayError):
    code, message = "method_not_allowed", "This path does not take that method."


class Conflict(GatewayError):
    code, message = "conflict", "The request conflicts with an earlier one."


class BadCursor(GatewayError):
    code, message = "bad_cursor", "That position is not one of this stream's."


class HistoryGone(GatewayError):
    code, message = "history_gone", "This answer's history is no longer kept."


class NotCached(GatewayError):
    code, message = "not_cached", "The answer is not in the cache, and only-if-cached was asked."


# -- conversations --------------------------------------------------------------------------
class ConversationBusy(GatewayError):
    code, message, retryable = "conversation_busy", "Too many turns of this conversation wait already.", True


class ConversationUnavailable(GatewayError):
    code, message, retryable = (
        "conversation_unavailable",
        "What was said in this conversation cannot be read now.",
        True,
    )


# -- contention and capacity ----------------------------------------------------------------
class QueueFull(GatewayError):
    code, message, retryable = "queue_full", "The queue is full; try again later.", True


class QueueTimeout(GatewayError):
    code, message, retryable = "queue_timeout", "The wait for a place was too long.", True


class Draining(GatewayError):
    code, message, retryable = "draining", "This gateway is shutting down.", True


class SlotTimeout(GatewayError):
    code, message, retryable = "slot_timeout", "No model stream became free in time.", True


class SubscribeTimeout(GatewayError):
    code, message, retryable = "subscribe_timeout", "Nobody opened the stream in time.", True


# -- other processes --------------------------------------------------------------------------
class LeaderLost(GatewayError):
    code, message, retryable = "leader_lost", "The process that made this answer is gone.", True


class WorkerLost(GatewayError):
    code, message, retryable = "worker_lost", "The process that had this request is gone; ask again.", True


class StateUnavailable(GatewayError):
    code, message, retryable = "state_unavailable", "What is known of this chat cannot be read now.", True


# -- preparation ----------------------------------------------------------------------------
class PrepareFailed(GatewayError):
    code, message, retryable = "prepare_failed", "The preparation of this request failed.", True


class PrepareTimeout(GatewayError):
    code, message, retryable = "prepare_timeout", "The preparation of this request took too long.", True


# -- the upstream ---------------------------------------------------------------------------
class UpstreamError(GatewayError):
    code, message, retryable = "upstream_error", "The model answered with an error.", True


class UpstreamUnreachable(UpstreamError):
    code, message = "upstream_unreachable", "The model cannot be reached."


class UpstreamRateLimited(UpstreamError):
    code, message = "upstream_rate_limited", "The model is limiting our rate."


class UpstreamAuth(UpstreamError):
    code, message, retryable = "upstream_auth", "The model refused the gateway's credentials.", False


class UpstreamRejected(UpstreamError):
    """The upstream's 400, 404 or 422: its status is kept, its code only if allow-listed."""

    code, message, retryable = "upstream_rejected", "The model rejected this request.", False


class UpstreamBadResponse(UpstreamError):
    code, message = "upstream_bad_response", "The model's answer could not be understood."


class UpstreamTruncated(UpstreamError):
    code, message = "upstream_truncated", "The model's answer ended before it was complete."


class FirstTokenTimeout(UpstreamError):
    code, message = "first_token_timeout", "The model produced no first token in time."


class StreamIdleTimeout(UpstreamError):
    code, message = "stream_idle_timeout", "The model stopped producing tokens."


class StreamTimeout(UpstreamError):
    code, message = "stream_timeout", "The model's answer took too long."
