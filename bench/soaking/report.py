"""What a soak says to people, and its one line for machines."""

from __future__ import annotations

from typing import Any

from bench.harness.report import facts
from bench.soaking.soak import Outcome


def table(outcome: Outcome) -> str:
    rows = [
        f"| {one.promise} | {'kept' if one.kept else '**broken**'} | {one.figure} |"
        for one in outcome.verdicts
    ]
    tally = outcome.tally
    return "\n".join(
        [
            *facts()[:-1],
            f"- **Load**: {tally.requests} requests, warm-up included; {_minutes(outcome):.1f} minutes with "
            f"{outcome.bursts} bursts of trouble with the model, {outcome.restarts} restarts of Redis, "
            f"{outcome.scrapes} scrapes",
            f"- **Visits**: {_counts(tally.ways)}",
            f"- **Ends**: {_counts(tally.ends)}",
            f"- **Most that were seen waiting**: {_counts(tally.waiting)}",
            f"- **Excused**: {_counts(tally.excused) or 'none'}",
            f"- **Hits**, p50 and p99 in ms: {_shown(_quarters(outcome))}",
            f"- **MiB per 10,000 requests**: {_slopes(outcome)}",
            "",
            "| Promise | | Figure |",
            "|---|---|---|",
            *rows,
            *("", *(f"- {words}" for words in tally.words)) * bool(tally.words),
        ]
    )


def line(outcome: Outcome, options: dict[str, Any]) -> dict[str, Any]:
    tally = outcome.tally
    return {
        "options": options,
        "ok": all(one.kept for one in outcome.verdicts),
        "broken": [one.promise for one in outcome.verdicts if not one.kept],
        "problems": dict(tally.broken),
        "requests": tally.requests,
        "minutes": round(_minutes(outcome), 2),
        "bursts": outcome.bursts,
        "redis_restarts": outcome.restarts,
        "visits": dict(tally.ways),
        "excused": dict(tally.excused),
        "most_waiting": tally.waiting,
        "slopes_mib_per_10k": {name: round(value, 3) for name, value in outcome.slopes.items()},
        "hits_ms": _quarters(outcome),
        "first_rest": outcome.first.brief(),
        "last_rest": outcome.last.brief(),
        "totals": outcome.last.totals,
        "model": {
            name: outcome.model[name]
            for name in ("calls", "peak", "completed", "aborted", "failed", "tokens")
        },
        "rss": [[requests, round(sum(sizes.values()), 1)] for requests, sizes in outcome.samples],
    }


def _quarters(outcome: Outcome) -> dict[str, dict[str, float]]:
    """Of hits of the OpenAI wire, as their callers timed them, a connection each."""
    began, ended = outcome.loaded
    quarter = (ended - began) / 4
    first = [ms for at, ms in outcome.tally.hits if began <= at < began + quarter]
    last = [ms for at, ms in outcome.tally.hits if ended - quarter <= at <= ended]
    return {name: _percentiles(some) for name, some in (("first quarter", first), ("last quarter", last))}


def _percentiles(some: list[float]) -> dict[str, float]:
    if not some:
        return {"hits": 0}
    ordered = sorted(some)
    at = [ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.99)]
    return {"hits": len(some), "p50": round(at[0], 1), "p99": round(at[1], 1)}


def _minutes(outcome: Outcome) -> float:
    return (outcome.loaded[1] - outcome.loaded[0]) / 60


def _slopes(outcome: Outcome) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in outcome.slopes.items())


def _shown(quarters: dict[str, dict[str, float]]) -> str:
    return "; ".join(
        f"{name} {' / '.join(str(value) for value in some.values())}" for name, some in quarters.items()
    )


def _counts(some: dict[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(some.items(), key=lambda one: -one[1]))
