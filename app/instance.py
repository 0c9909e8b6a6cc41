"""What `/pipeline` and `/metrics` say: of the whole instance, whichever of its workers answers."""

from __future__ import annotations

from typing import Any

from app import preparation_reading
from app.preparation_reading import add_preparations
from app.readings import Instance, Reading, add_families, add_stages, add_totals
from app.snapshot import LISTED, shown
from runtime.metrics import render


def pipeline(instance: Instance) -> dict[str, Any]:
    """The body of `GET /pipeline`."""
    readings, departed = instance.readings, instance.departed
    everybody = [*readings, *([departed] if departed else [])]
    preparation = add_preparations(one.preparation for one in everybody)
    return {
        "state": _state(readings),
        "model": readings[0].model,
        "stages": [shown(stage) for stage in add_stages(readings)],
        "broadcasts": _broadcasts(readings)[:LISTED],
        "preparation": preparation_reading.shown(preparation),
        "totals": _rounded(add_totals(everybody)),
        "workers": [_worker(one) for one in readings],
    }


def metrics(instance: Instance) -> bytes:
    """The body of `GET /metrics`."""
    departed = [instance.departed] if instance.departed and instance.only is None else []
    counted = [one for one in instance.readings if instance.only in (None, one.worker)]
    everybody = [*counted, *departed]
    alive = sum(not one.stale for one in counted)
    return render(add_families(everybody), add_stages(everybody), alive, instance.restarts)


def _state(readings: list[Reading]) -> str:
    states = [one.state for one in readings]
    return "ready" if "ready" in states else states[0]


def _worker(one: Reading) -> dict[str, Any]:
    return {
        "worker": one.worker,
        "pid": one.pid,
        "proc": one.proc,
        "state": one.state,
        "stale": one.stale,
        "stages": [shown(stage) for stage in one.stages],
        "broadcasts": len(one.broadcasts),
        "totals": _rounded(one.totals),
    }


def _broadcasts(readings: list[Reading]) -> list[dict[str, Any]]:
    """Each once, with its readers in all processes; its maker knows its phase best."""
    found: dict[str, dict[str, Any]] = {}
    everything = [broadcast for reading in readings for broadcast in reading.broadcasts]
    for one in sorted(everything, key=lambda broadcast: "mirror" in broadcast):
        shown = found.setdefault(one["id"], {**one, "subscribers": 0, "processes": 0})
        shown["subscribers"] += one["subscribers"]
        shown["processes"] += 1
        shown.pop("mirror", None)
    return list(found.values())


def _rounded(totals: dict[str, int | float]) -> dict[str, int | float]:
    return {name: round(value, 3) for name, value in totals.items()}
