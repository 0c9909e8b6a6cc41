"""For whom a tool is run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """`scope` is who may share (see `cache.keys`), `tenant` whose key it was, `user` whom the request names.

    A function that wants to know has a parameter of this type; the model neither sees nor fills it.
    """

    scope: str
    tenant: str
    user: str | None = None
