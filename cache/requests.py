"""What is known of a request everywhere: its record, its end, and who was first with a request_id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cache.errors import StoreDown
from cache.link import Link
from cache.names import once_key, request_key
from cache.scripts import Script

_REMEMBER, _RECALL, _ENDED = Script.of("remember"), Script.of("recall"), Script.of("ended")
_FINAL = Script.of("final")
_ONCE, _FORGET = Script.of("once"), Script.of("forget")

#: "w": a wish, its own process may know better, so nobody else is told before `final`.
#: "s": how its flight has ended.
#: "p": that, as a reader elsewhere is about to be told it: its own process can no longer say otherwise.
How = Literal["", "w", "s", "p"]


@dataclass(frozen=True, slots=True)
class Known:
    """`about` and `end` are JSON of their owner's making; `end` is b"" while it runs."""

    about: bytes
    role: str
    epoch: int
    owner: str
    end: bytes


class SharedRequests:
    """Raises StoreDown or StoreRefused, and nothing else but cancellation."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def remember(self, id: str, about: bytes, role: str, epoch: int, ttl_ms: int) -> None:
        args = (self._link.proc, about, role, epoch, ttl_ms)
        await self._link.run(_REMEMBER, [request_key(id)], args)

    async def recall(self, id: str, *, reading: bool = False) -> Known | None:
        """`reading`: this process will hear of its end."""
        reply = await self._link.run(_RECALL, [request_key(id)], (self._link.proc, "1" if reading else ""))
        if not reply:
            return None
        try:
            about, role, epoch, owner, end = reply
            return Known(about, role.decode(), int(epoch or 0), owner.decode(), end)
        except (ValueError, TypeError, AttributeError):
            raise StoreDown("recall: a reply that makes no sense") from None

    async def ended(
        self, id: str, end: bytes, ttl_ms: int, epoch: int | None = None, *, how: How = ""
    ) -> bytes | None:
        """Note an end; what is noted is returned, None if the request is not known."""
        args = (self._link.proc, id, end, ttl_ms, "" if epoch is None else epoch, how)
        reply = await self._link.run(_ENDED, [request_key(id)], args)
        if reply[0] == b"NONE":
            return None
        known: bytes = end if reply[0] == b"OK" else reply[1]
        return known

    async def final(self, id: str) -> bytes | None:
        """How it has ended for good: asked before anybody is told so."""
        reply = await self._link.run(_FINAL, [request_key(id)], (id,))
        end: bytes | None = reply[0] if reply else None
        return end

    async def owner_knows(self, id: str) -> bool:
        """Has its owner heard of an end that another process noted?"""
        end, knows = await self._link.do("HMGET", request_key(id), "x", "k")
        return end is None or knows is not None

    async def forget(self, id: str) -> None:
        await self._link.do("DEL", request_key(id))

    async def first(self, tenant: str, request_id: str, value: str, ttl_ms: int, stale: str = "") -> str:
        """Claim a request_id: `value`, or that of whoever was first. A `stale` one is replaced."""
        reply = await self._link.run(_ONCE, [once_key(tenant, request_id)], (value, ttl_ms, stale))
        return value if reply[0] == b"OK" else str(reply[1].decode())

    async def release(self, tenant: str, request_id: str, value: str) -> None:
        """A refused submit does not consume it."""
        await self._link.run(_FORGET, [once_key(tenant, request_id)], (value,))
