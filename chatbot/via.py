"""How a request came."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Via:
    """`native` requests subscribe later, others are attached from their admission."""

    route: str
    native: bool


NATIVE = Via("chat", native=True)
OPENAI = Via("openai", native=False)
