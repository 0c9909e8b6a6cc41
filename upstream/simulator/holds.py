"""Named barriers: a call waits at one until a test releases it, so that no test needs to sleep."""

from __future__ import annotations

import asyncio

from upstream.simulator.stats import Tally


class Holds:
    """A name once released stays released, so a release that comes before its call is not lost."""

    def __init__(self) -> None:
        self._released = Tally()
        self._gates: dict[str, list[asyncio.Event]] = {}

    async def wait(self, name: str) -> None:
        """Return when `name` is released, at once if it was already."""
        if name in self._released:
            return
        gate = asyncio.Event()
        gates = self._gates.setdefault(name, [])
        gates.append(gate)
        try:
            await gate.wait()
        finally:
            gates.remove(gate)
            if not gates:
                self._gates.pop(name, None)

    def release(self, name: str) -> int:
        """Let through who waits at `name` or will come to it; how many waited."""
        self._released.add(name)
        gates = self._gates.get(name, [])
        for gate in gates:
            gate.set()
        return len(gates)

    def waiting(self) -> dict[str, int]:
        """How many calls wait at each name now."""
        return {name: len(gates) for name, gates in self._gates.items()}


async def forever() -> None:
    """Wait until cancelled, which is what happens when the client leaves."""
    await asyncio.Event().wait()
