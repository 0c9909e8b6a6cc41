"""A ticket: what is carried through the pipeline of a request's identity."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, replace
from typing import Final

from admission import Priority, order_of

#: Of an id without a partition.
ID_LENGTH: Final = 37


def new_id() -> str:
    """128 random bits: an id cannot be guessed."""
    return "chat_" + secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class Ticket:
    """`arrived_at` is loop time, `created_at` wall time for people to read; both in seconds.

    `traceparent`: of the span of the request; "" if it has none.
    """

    id: str
    tenant: str
    priority: Priority
    arrived_at: float
    created_at: float
    traceparent: str = ""

    @classmethod
    def issue(cls, tenant: str, priority: Priority = Priority.INTERACTIVE, traceparent: str = "") -> Ticket:
        now = asyncio.get_running_loop().time()
        return cls(new_id(), tenant, priority, now, time.time(), traceparent)

    def placed(self, key: str) -> Ticket:
        """The same, its id ending as `key` does: what Redis knows of both is in one partition.

        Once is enough: a turn of a conversation has its id before its key.
        """
        return self if len(self.id) > ID_LENGTH else replace(self, id=self.id + key[-2:])

    @property
    def order(self) -> float:
        return order_of(self.priority, self.arrived_at)
