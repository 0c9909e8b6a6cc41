"""An error that the simulated model answers with, in the shape of OpenAI's."""

from __future__ import annotations

_KINDS = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error"}
_KINDS |= {404: "invalid_request_error", 429: "rate_limit_error"}
_CODES = {429: "rate_limit_exceeded"}


class Refusal(Exception):
    """An HTTP status of 400 or more, with its code and (seconds) `Retry-After`."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code or _CODES.get(status, "simulated_error")
        self.retry_after = retry_after

    def body(self) -> dict[str, object]:
        """The JSON object of the reply, or of an error frame inside a stream."""
        default = "server_error" if self.status >= 500 else "invalid_request_error"
        kind = _KINDS.get(self.status, default)
        return {"error": {"message": self.message, "type": kind, "param": None, "code": self.code}}

    def headers(self) -> list[tuple[bytes, bytes]]:
        """`Retry-After`, if there is one."""
        return [] if self.retry_after is None else [(b"retry-after", str(self.retry_after).encode())]
