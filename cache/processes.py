"""Which processes there are: each says that it lives, a supervisor says which of its own has died."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from cache.link import Link
from cache.names import DEAD, PROCESSES
from cache.scripts import Script

_ALIVE, _BURY = Script.of("alive"), Script.of("bury")
#: A dead process is remembered for at least so long: longer than anything it held.
BURIED_S = 120.0


def new_proc() -> str:
    """64 random bits, per start of a process: neither a pid nor a host's name is ever meant twice."""
    return secrets.token_hex(8)


class Processes:
    """`count` of the living, as last heard, and `dead` ones whose leases need not be waited for."""

    def __init__(self, link: Link, lease_s: float) -> None:
        self._link = link
        self._lease_ms = round(lease_s * 1000)
        self._on_death: list[Callable[[str], None]] = []
        self._on_oblivion: list[Callable[[], None]] = []
        self._seen = False
        self.count = 1
        self.dead: frozenset[str] = frozenset()
        link.listen("K", self._died)

    def on_death(self, act: Callable[[str], None]) -> None:
        """`act(proc)` for each death that is news."""
        self._on_death.append(act)

    def on_oblivion(self, act: Callable[[], None]) -> None:
        """`act()` when Redis does not know this process any more: what else it knew may be gone as well."""
        self._on_oblivion.append(act)

    async def beat(self) -> None:
        """Say that this process lives, hear how many do and who is dead."""
        reply = await self._link.run(_ALIVE, [PROCESSES, DEAD], (self._link.proc, self._lease_ms))
        count, dead, known = reply
        forgotten, self._seen = self._seen and not known, True
        for forget in self._on_oblivion if forgotten else ():
            forget()
        self.count = max(1, int(count))
        found = frozenset(proc.decode() for proc in dead)
        news, self.dead = found - self.dead, found
        for proc in news:
            self._tell(proc)

    async def lives(self, proc: str) -> bool:
        """Has it said so within a lease? Raises StoreError."""
        return proc not in self.dead and await self._link.do("ZSCORE", PROCESSES, proc) is not None

    def _died(self, proc: str) -> None:
        if proc not in self.dead:
            self.dead |= {proc}
            self._tell(proc)

    def _tell(self, proc: str) -> None:
        for act in self._on_death:
            act(proc)


async def bury(link: Link, proc: str, lease_s: float) -> None:
    """Called by the supervisor of `proc`: nobody waits for its leases."""
    keep_ms = round(max(BURIED_S, 4 * lease_s) * 1000)
    await link.run(_BURY, [PROCESSES, DEAD], (proc, keep_ms))
