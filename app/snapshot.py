"""The pipeline as it is now: what `/pipeline` shows and `/metrics` reads. No prompt text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from zlib import crc32

from broadcast.broadcast import Broadcast
from broadcast.lifecycle import Phase
from runtime.metrics import StageReading
from upstream.chunk import Chunk

if TYPE_CHECKING:
    from app.gateway import Gateway

#: More than so many broadcasts are counted, not listed.
LISTED = 200


def stage_readings(gateway: Gateway) -> Iterator[StageReading]:
    lane = gateway.lane.stats()
    yield StageReading(
        name="cache",
        capacity=lane.capacity,
        in_use=lane.busy,
        waiting=lane.waiting,
        max_waiting=lane.max_waiting,
        oldest_wait_s=lane.oldest_wait_s,
        admitted=lane.admitted,
        released=lane.released,
        refused={"queue_full": lane.overflowed, "timeout": lane.expired},
    )
    toolbox = gateway.preparing.toolbox
    for stage in (*gateway.stages, *(toolbox.stages[:1] if len(toolbox) else ())):
        stats = stage.stats()
        yield StageReading(
            name=stats.name,
            capacity=stats.capacity,
            in_use=stats.in_use,
            waiting=stats.waiting,
            max_waiting=stats.max_waiting,
            oldest_wait_s=stats.oldest_wait_s,
            admitted=stats.admitted,
            released=stats.released,
            refused=stats.refused,
        )


#: Stages whose permits all processes of all instances share.
SHARED = ("llm_streams", "llm_calls")


def shown(stage: StageReading) -> dict[str, Any]:
    return {
        "name": stage.name,
        "scope": "shared" if stage.name in SHARED else "process",
        "capacity": stage.capacity,
        "in_use": stage.in_use,
        "waiting": stage.waiting,
        "max_waiting": stage.max_waiting,
        "oldest_wait_ms": round(stage.oldest_wait_s * 1000),
        "admitted": stage.admitted,
        "refused": sum(stage.refused.values()),
    }


def broadcasts(gateway: Gateway, now: float) -> list[dict[str, Any]]:
    """The running ones; a mirror is another process's, shown with its readers here."""
    return [
        {
            "id": _id_of(broadcast),
            "phase": broadcast.phase.value,
            "subscribers": len(broadcast.readers),
            "events": len(broadcast.log),
            "age_ms": round((now - broadcast.opened_at) * 1000),
            **({"step": broadcast.step} if broadcast.step and broadcast.phase is Phase.PREPARING else {}),
            **({"mirror": True} if broadcast.remote else {}),
        }
        for broadcast in list(gateway.broadcasts.running)[:LISTED]
    ]


def _id_of(broadcast: Broadcast[Chunk]) -> str:
    """The same in every process, and not that of another one that began in the same millisecond."""
    return f"{broadcast.log.epoch}-{crc32((broadcast.key or '').encode()):08x}"


def totals(gateway: Gateway) -> dict[str, int | float]:
    lane = gateway.lane.stats()
    return {
        **gateway.observer.totals,
        **gateway.preparation.totals,
        "inner_calls_shared": gateway.preparing.calls.joins,
        "upstream_calls": gateway.upstream_calls,
        "upstream_in_flight": gateway.client.stats().in_flight,
        "broadcasts": len(gateway.broadcasts.running),
        "subscribers": len(gateway.connections),
        "readers_cut": gateway.connections.cut,
        "records": len(gateway.records),
        "turns_waiting": gateway.conversations.waiting,
        "tasks": len(gateway.supervisor),
        "cache_hits_local": lane.hits_local,
        "cache_hits_redis": lane.hits_redis,
        "cache_misses": lane.misses,
    }
