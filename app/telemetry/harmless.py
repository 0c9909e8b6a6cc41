"""Tracing describes what happens, and must never change it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger("refrain.tracing")


@contextmanager
def harmless() -> Iterator[None]:
    """Whatever goes wrong inside is logged, and then forgotten."""
    try:
        yield
    except Exception:
        log.exception("a span could not be described")
