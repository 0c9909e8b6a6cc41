"""The slots of a model that several processes share: leases in Redis, a queue for all, grants pushed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from admission.leasing import LeasesUnavailable, Standing, Waiting
from cache.errors import StoreError
from cache.link import Link
from cache.scripts import Script
from cache.wire import Word

_SYNC, _PAUSE, _RECLAIM = (Script.of(f"pool_{name}", "pool") for name in ("sync", "pause", "reclaim"))


def _keys(pool: str) -> list[str]:
    return [f"g:{{L{pool}}}:{part}" for part in "hqwx"]


class RedisLeases:
    """One pool of `capacity` slots. A ticket in Redis is `<proc>/<number>`."""

    def __init__(self, link: Link, pool: str, capacity: int, lease_s: float) -> None:
        self._link = link
        self._pool = pool
        self._head: tuple[Word, ...] = (capacity, round(lease_s * 1000), pool)
        self._on_grant: Callable[[int], None] | None = None
        link.listen("G", self._granted)

    @property
    def up(self) -> bool:
        return self._link.up

    async def sync(
        self, released: Sequence[int], held: Sequence[int], waiting: Sequence[Waiting], *, restart: bool
    ) -> Standing:
        args: list[Word] = [*self._head, int(restart)]
        for tickets in (released, held):
            args += [len(tickets), *(self._name(ticket) for ticket in tickets)]
        args.append(len(waiting))
        for one in waiting:
            args += [self._name(one.ticket), f"{'u' if one.moved else ''}{one.order_ms}"]
        try:
            reply = await self._link.run(_SYNC, _keys(self._pool), args)
            _, wait, queued, holding, *ahead = (int(number or 0) for number in reply)
        except (StoreError, TypeError, ValueError) as error:
            raise LeasesUnavailable(str(error)) from None
        return Standing(wait, queued, holding, ahead)

    async def pause(self, seconds: float) -> None:
        try:
            await self._link.run(_PAUSE, _keys(self._pool), [*self._head, round(seconds * 1000)])
        except StoreError as error:
            raise LeasesUnavailable(str(error)) from None

    def on_grant(self, act: Callable[[int], None]) -> None:
        self._on_grant = act

    def on_change(self, act: Callable[[], None]) -> None:
        self._link.on_up(act)
        self._link.on_down(act)

    def _name(self, ticket: int) -> str:
        return f"{self._link.proc}/{ticket}"

    def _granted(self, message: str) -> None:
        pool, _, name = message.partition("|")
        if pool == self._pool and self._on_grant is not None:
            self._on_grant(int(name.partition("/")[2]))


async def reclaim(link: Link, pool: str, capacity: int, lease_s: float, proc: str) -> int:
    """What a dead process held goes to those who wait, at once; how many slots. Raises StoreError."""
    args: list[Word] = [capacity, round(lease_s * 1000), pool, proc]
    return int(await link.run(_RECLAIM, _keys(pool), args))
