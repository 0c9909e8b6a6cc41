"""Whether what is left at rest is what may be left, and whether the gateway's own sums are true."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from bench.soaking.gauges import Rest
from bench.soaking.scene import STREAMS, Scene
from bench.soaking.tally import BY_ID, Tally
from tests.system.crew import STAGES

#: MiB per 10,000 requests.
SLOPE: Final = 1.0
#: Over fewer requests a slope says how the heap grows to its working size, and nothing else.
SLOPE_NEEDS: Final = 30_000
#: Files: a line to Redis may be there or just being made anew.
FDS: Final = 2
#: The share by which the gateway's count of calls may differ from the model's: a call that is given up
#: while its connection is being made is counted by one of them alone.
CALLS: Final = 0.01
#: A call takes longer than scripted on a machine that is busy, and never less.
SECONDS_LEAST: Final = 0.9
SECONDS_MOST: Final = 2.0


@dataclass(frozen=True)
class Verdict:
    """One promise."""

    promise: str
    kept: bool
    figure: str


def verdicts(scene: Scene, tally: Tally, first: Rest, last: Rest, model: dict[str, Any]) -> list[Verdict]:
    """`model`: the simulator's counts at the last rest."""
    return [*_callers(tally), *_rest(scene, first, last), *_sums(tally, last, model, scene)]


def _callers(tally: Tally) -> list[Verdict]:
    by_id = sum(number for what, number in tally.broken.items() if what in BY_ID)
    other = sum(tally.broken.values()) - by_id
    asked = tally.ways["polls"] + tally.ways["cancels"] + tally.ways["cancels_late"]
    return [
        Verdict("every text exact, every request one end", not other, f"{tally.texts} texts, {other} broken"),
        Verdict("every process says the same of an id", not by_id, f"{asked} visits, {by_id} broken"),
    ]


def _rest(scene: Scene, first: Rest, last: Rest) -> list[Verdict]:
    named = {name: (first.fds.get(name), last.fds[name]) for name in last.fds}
    level = all(was is not None and now <= was + FDS for was, now in named.values())
    endless = [name for name in last.redis_without_ttl if not name.endswith(":f")]
    books = [_books(last.series, stage) for stage in STAGES]
    idle = all(not stage["in_use"] and not stage["waiting"] for stage in last.stages)
    errors = scene.errors()
    return [
        Verdict("it comes to rest", last.restless is None, last.restless or f"after {last.waited_s} s"),
        Verdict("files back to rest", level, _pairs(named)),
        Verdict(
            "threads back to rest",
            all(last.threads[name] <= first.threads.get(name, 0) for name in last.threads),
            _pairs({name: (first.threads.get(name), last.threads[name]) for name in last.threads}),
        ),
        Verdict("tasks back to rest", last.tasks <= first.tasks, f"{first.tasks} → {last.tasks}"),
        Verdict("stages empty", idle, "0 in use, 0 waiting" if idle else str(last.stages)),
        Verdict(
            "admitted = released + reclaimed",
            all(admitted == released + reclaimed for admitted, released, reclaimed in books),
            ", ".join(f"{stage} {int(book[0])}" for stage, book in zip(STAGES, books, strict=True)),
        ),
        Verdict(
            "nothing reclaimed", not any(book[2] for book in books), str(int(sum(book[2] for book in books)))
        ),
        Verdict("records gone after their retention", last.records == 0, str(last.records)),
        Verdict(
            "every Redis key has a TTL, but for the fences",
            not endless,
            f"{last.redis_keys} keys, {len(last.redis_without_ttl)} fences, {endless[:3] or 'no other'}",
        ),
        Verdict(
            "Redis connections back to rest",
            last.redis_clients <= first.redis_clients + FDS,
            f"{first.redis_clients} → {last.redis_clients}",
        ),
        Verdict("no error in the log", not errors, str(errors[:2] or 0)),
    ]


def _sums(tally: Tally, last: Rest, model: dict[str, Any], scene: Scene) -> list[Verdict]:
    """Row 98."""
    totals = last.totals
    calls, counted = totals["upstream_calls"], model["calls"]
    ends = sum(totals[name] for name in ("completed", "failed", "cancelled", "shed", "expired"))
    tokens, seconds = totals["tokens_saved"], totals["seconds_saved"]
    most_s = SECONDS_MOST * (tally.saved_s + tally.vague_s)
    cap = STREAMS * (2 if scene.workers > 1 else 1)
    return [
        Verdict(
            "every request counted as one end", ends == totals["requests"], f"{ends} of {totals['requests']}"
        ),
        Verdict(
            "requests are what was sent",
            tally.sent <= totals["requests"] <= tally.sent + tally.vague,
            f"{totals['requests']} in {tally.sent} … {tally.sent + tally.vague}",
        ),
        Verdict(
            f"upstream calls as the model counted, within {CALLS:.0%}",
            abs(calls - counted) <= max(2, CALLS * counted),
            f"{calls}, model {counted}",
        ),
        Verdict(
            "tokens saved are what callers got without a call",
            tally.saved_tokens <= tokens <= tally.saved_tokens + tally.vague_tokens,
            f"{tokens} in {tally.saved_tokens} … {tally.saved_tokens + tally.vague_tokens}",
        ),
        Verdict(
            "seconds saved likewise, as long as scripted or up to twice that",
            SECONDS_LEAST * tally.saved_s <= seconds <= most_s,
            f"{seconds:.0f} in {SECONDS_LEAST * tally.saved_s:.0f} … {most_s:.0f}",
        ),
        Verdict("the model never saw more than its cap", model["peak"] <= cap, f"{model['peak']} of {cap}"),
    ]


def memory(slopes: dict[str, float], requests: int) -> Verdict:
    """Of all processes together."""
    enough = requests >= SLOPE_NEEDS
    kept = not enough or (not math.isnan(slopes["all"]) and slopes["all"] < SLOPE)
    figure = f"{slopes.get('all', math.nan):.2f} over {requests} requests" + (
        "" if enough else ", too few to judge"
    )
    return Verdict("memory slope under 1 MiB per 10,000 requests", kept, figure)


def _books(series: dict[str, float], stage: str) -> tuple[float, float, float]:
    label = f'{{stage="{stage}"}}'
    return (
        series[f"refrain_stage_admitted_total{label}"],
        series[f"refrain_stage_released_total{label}"],
        series[f"refrain_permits_reclaimed_total{label}"],
    )


def _pairs(named: dict[str, tuple[int | None, int]]) -> str:
    return ", ".join(f"{name} {was} → {now}" for name, (was, now) in named.items())
