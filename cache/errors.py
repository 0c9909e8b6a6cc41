"""The two ways a call to the answer store can fail. Neither ever reaches a client: both are misses."""

from __future__ import annotations


class StoreError(Exception):
    """A call to the store brought nothing."""


class StoreDown(StoreError):
    """No reply that can be trusted: a timeout, a broken connection, bytes that make no sense."""


class StoreRefused(StoreError):
    """A living server said no: out of memory, read-only, loading, no permission."""
