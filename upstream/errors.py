"""The two errors that only this package tells apart from their parents in `runtime.errors`."""

from __future__ import annotations

from runtime.errors import UpstreamError


class UpstreamUnavailable(UpstreamError):
    """The upstream's 502, 503 or 504: a client sees `upstream_error`, the retry policy that it may pass."""

    message = "The model is not available at the moment."


class PermitRequired(RuntimeError):
    """A call was about to be made outside of its stage: a bug in this process, never a client's fault."""
