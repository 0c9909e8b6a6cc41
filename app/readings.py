"""What one process shows of itself, and what the processes of an instance show together.

Counters and histograms add up, also those of workers that are gone. Gauges are those of the living. A shared
stage's capacity counts once, and what a dead worker held was taken back from it: it is reclaimed.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import msgspec

from app.preparation_reading import PreparationReading, add_preparations, over, preparation_of
from app.snapshot import SHARED, broadcasts, stage_readings, totals
from runtime.metrics import Family, StageReading

if TYPE_CHECKING:
    from app.gateway import Gateway

#: Of totals that say what is now, the departed have none.
_NOW = ("upstream_in_flight", "broadcasts", "subscribers", "records", "turns_waiting", "tasks")


@dataclass(frozen=True, slots=True)
class Reading:
    """One process at one moment. `stale`: it did not answer now, this is what it last said."""

    worker: int
    pid: int
    proc: str
    state: str
    model: str
    stages: list[StageReading]
    broadcasts: list[dict[str, Any]]
    totals: dict[str, int | float]
    families: list[Family]
    stale: bool = False
    preparation: PreparationReading = field(default_factory=PreparationReading)


@dataclass(frozen=True, slots=True)
class Instance:
    """All processes of one `serve`. `departed` is the sum of those that are gone."""

    readings: list[Reading]
    departed: Reading | None = None
    restarts: int = 0
    only: int | None = field(default=None)


def reading(gateway: Gateway) -> Reading:
    """This process, now."""
    gateway.metrics.subscribers.set(len(gateway.connections))
    gateway.metrics.broadcasts.set(len(gateway.broadcasts.running))
    gateway.metrics.upstream_in_flight.set(gateway.client.stats().in_flight)
    gateway.metrics.turns_waiting.set(gateway.conversations.waiting)
    gateway.preparation.inner_calls_shared(gateway.preparing.calls.joins)
    preparation = preparation_of(gateway)
    gateway.metrics.preparation.left_threads.set(sum(tool.left_threads for tool in preparation.tools))
    return Reading(
        gateway.addresses.worker,
        os.getpid(),
        gateway.addresses.proc,
        gateway.state,
        "simulated" if gateway.addresses.simulated else "upstream",
        list(stage_readings(gateway)),
        broadcasts(gateway, asyncio.get_running_loop().time()),
        totals(gateway),
        gateway.metrics.families(),
        preparation=preparation,
    )


def packed(one: Reading) -> bytes:
    return msgspec.msgpack.encode(one)


def unpacked(data: bytes) -> Reading:
    """Raises msgspec.MsgspecError."""
    return msgspec.msgpack.decode(data, type=Reading)


def bury(departed: Reading | None, gone: Reading) -> Reading:
    """The sum of the departed, with one more: what it held is reclaimed, what it showed is over."""
    known = [departed] if departed else []
    stages = [
        replace(
            stage,
            capacity=0,
            in_use=0,
            waiting=0,
            oldest_wait_s=0.0,
            reclaimed=stage.reclaimed + stage.in_use,
        )
        for stage in gone.stages
    ]
    counted = [family for family in gone.families if family.type != "gauge"]
    totals = {name: 0 if name in _NOW else value for name, value in gone.totals.items()}
    left = replace(gone, worker=0, stages=stages, broadcasts=[], totals=totals, families=counted)
    return replace(
        left,
        stages=add_stages([*known, left]),
        totals=add_totals([*known, left]),
        families=add_families([*known, left]),
        preparation=add_preparations(over(one.preparation) for one in [*known, left]),
    )


def add_families(readings: Sequence[Reading]) -> list[Family]:
    """Each sample's sum over the processes."""
    sums: dict[str, Family] = {}
    values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for one in readings:
        for family in one.families:
            sums.setdefault(family.name, Family(family.name, family.documentation, family.type, []))
            for name, labels, value in family.samples:
                at = (name, tuple(sorted(labels.items())))
                if at not in values:
                    sums[family.name].samples.append((name, labels, 0.0))
                values[at] = values.get(at, 0.0) + value
    for family in sums.values():
        family.samples[:] = [
            (name, labels, values[name, tuple(sorted(labels.items()))]) for name, labels, _ in family.samples
        ]
    return list(sums.values())


def add_stages(readings: Sequence[Reading]) -> list[StageReading]:
    """Each stage over the processes."""
    by_name: dict[str, list[StageReading]] = {}
    for one in readings:
        for stage in one.stages:
            by_name.setdefault(stage.name, []).append(stage)
    return [_sum_of(name, stages) for name, stages in by_name.items()]


def add_totals(readings: Iterable[Reading]) -> dict[str, int | float]:
    sums: dict[str, int | float] = {}
    for one in readings:
        for name, value in one.totals.items():
            sums[name] = sums.get(name, 0) + value
    return sums


def _sum_of(name: str, stages: list[StageReading]) -> StageReading:
    capacities = [stage.capacity for stage in stages]
    rooms = [stage.max_waiting for stage in stages if stage.capacity]
    refused: Counter[str] = Counter()
    for stage in stages:
        refused.update(stage.refused)
    return StageReading(
        name=name,
        capacity=max(capacities) if name in SHARED else sum(capacities),
        in_use=sum(stage.in_use for stage in stages),
        waiting=sum(stage.waiting for stage in stages),
        max_waiting=None if None in rooms or not rooms else sum(room or 0 for room in rooms),
        oldest_wait_s=max(stage.oldest_wait_s for stage in stages),
        admitted=sum(stage.admitted for stage in stages),
        released=sum(stage.released for stage in stages),
        reclaimed=sum(stage.reclaimed for stage in stages),
        refused=dict(refused),
    )
