"""One warning when a stage has been 80 % full for a while, and none again until it has recovered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from admission import Stage

log = logging.getLogger("refrain.saturation")

WARN_AT: Final = 0.8
CALM_AT: Final = 0.5
INTERVAL_S: Final = 0.25
#: So many readings in a row: a burst that is over in a second is what pools are for.
READINGS: Final = 4
#: Recovered is who has been calm for a minute: a stage of one is full at each request.
CALM_READINGS: Final = 240


class SaturationWatch:
    """`run` is a loop that the Supervisor owns; `look` is one reading of all stages."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = stages
        self._full_for = {stage.name: 0 for stage in stages}
        self._calm_for = {stage.name: 0 for stage in stages}
        self._warned: set[str] = set()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            self.look()

    def look(self) -> None:
        for stage in self._stages:
            stats = stage.stats()
            used = stage.load() / stats.capacity
            if used < WARN_AT:
                self._full_for[stage.name] = 0
                calm = used <= CALM_AT and not stats.waiting
                self._calm_for[stage.name] = self._calm_for[stage.name] + 1 if calm else 0
                if self._calm_for[stage.name] >= CALM_READINGS:
                    self._warned.discard(stage.name)
                continue
            self._calm_for[stage.name] = 0
            self._full_for[stage.name] += 1
            if self._full_for[stage.name] >= READINGS and stage.name not in self._warned:
                self._warned.add(stage.name)
                log.warning(
                    "a stage is nearly full",
                    extra={
                        "stage": stage.name,
                        "in_use": stage.load(),
                        "capacity": stats.capacity,
                        "waiting": stats.waiting,
                    },
                )
