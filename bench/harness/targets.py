"""The targets of the design: ratios to the references of the same run, never absolute numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from bench.harness.load import Sample
from bench.harness.scenarios import AIOHTTP, L2, NGINX, NGINX_CACHE, REFRAIN

Results = Mapping[tuple[str, str], Sample]

PER_REQUEST: Final = "cpu_us_per_request"
PER_TOKEN: Final = "cpu_us_per_token"
LATENCY: Final = "latency.p50_ms"
TTFT: Final = "ttft.p50_ms"


@dataclass(frozen=True, slots=True)
class Goal:
    """`value` of the results, None where a reference is missing; met up to `limit`, or from it if `least`."""

    what: str
    value: Callable[[Results], float | None]
    limit: float
    unit: str = "x"
    least: bool = False

    def met(self, value: float) -> bool:
        return value >= self.limit if self.least else value <= self.limit


def _number(results: Results, scenario: str, target: str, name: str) -> float | None:
    sample = results.get((scenario, target))
    return None if sample is None else sample.numbers.get(name)


def _ratio(
    name: str, scenario: str, reference: str, of: tuple[str, str] | None = None
) -> Callable[[Results], float | None]:
    """Refrain's number (or `of`'s) over the reference's, in `scenario`."""

    def value(results: Results) -> float | None:
        ours = _number(results, *(of or (scenario, REFRAIN)), name)
        theirs = _number(results, scenario, reference, name)
        return ours / theirs if ours is not None and theirs else None

    return value


def _added(name: str, scenario: str, reference: str) -> Callable[[Results], float | None]:
    def value(results: Results) -> float | None:
        ours = _number(results, scenario, REFRAIN, name)
        theirs = _number(results, scenario, reference, name)
        return None if ours is None or theirs is None else ours - theirs

    return value


def _own(name: str, scenario: str) -> Callable[[Results], float | None]:
    return lambda results: _number(results, scenario, REFRAIN, name)


GOALS: Final = (
    Goal(
        "S1: CPU per request, 32 connections, to `py_aiohttp`", _ratio(PER_REQUEST, "S1 c=32", AIOHTTP), 1.3
    ),
    Goal("S1: p50 added to direct, 1 connection", _added(LATENCY, "S1 c=1", "direct"), 0.30, "ms"),
    Goal("S2: CPU per token, 512 streams, to `py_aiohttp`", _ratio(PER_TOKEN, "S2 c=512", AIOHTTP), 1.2),
    Goal("S2: the same, to nginx", _ratio(PER_TOKEN, "S2 c=512", NGINX), 2.0),
    Goal("S2: p50 of the first token added to direct, low load", _added(TTFT, "S2 low", "direct"), 1.0, "ms"),
    Goal("S2: wall of 512 at once, to direct", _ratio("wall_s", "S2 c=512", "direct"), 1.05),
    Goal("S2: unpaced tokens/s, to nginx", _ratio("tokens_per_s", "S2 burst", NGINX), 0.4, least=True),
    Goal(
        "S3: hits/s, 32 connections, to nginx proxy_cache",
        _ratio("rps", "S3 c=32", NGINX_CACHE),
        0.45,
        least=True,
    ),
    Goal(
        "S3: CPU per hit, 64 connections, to a uvicorn hello",
        _ratio(PER_REQUEST, "hello", "uvicorn", ("S3 c=64", REFRAIN)),
        1.35,
    ),
    Goal(
        "S3: CPU per hit as SSE, to the same as JSON",
        _ratio(PER_REQUEST, "S3 c=32", REFRAIN, ("S3s c=32", REFRAIN)),
        1.15,
    ),
    Goal(
        "S3: CPU per hit from Redis, 64 connections, to one from the process",
        _ratio(PER_REQUEST, "S3 c=64", REFRAIN, ("S3 c=64", L2)),
        1.4,
    ),
    Goal("S4: upstream calls for 500 identical streams", _own("upstream.requests", "S4 n=500"), 1, "calls"),
    Goal("S4: right texts of 500", _own("ok", "S4 n=500"), 500, "texts", least=True),
    Goal("S4: wall, to nginx pass-through", _ratio("wall_s", "S4 n=500", NGINX), 1.02),
    Goal(
        "S4: p50 of the first token, the upstream's 300 ms taken off",
        lambda results: _less(_own(TTFT, "S4 n=500")(results), 300),
        30,
        "ms",
    ),
    Goal("S4: CPU per token delivered, to nginx pass-through", _ratio(PER_TOKEN, "S4 n=500", NGINX), 1.1),
    Goal("S4 late: p50 of the first token", _own(TTFT, "S4 late"), 1.0, "ms"),
    Goal(
        "S6: memory per subscriber, to sse-starlette",
        _ratio("rss_per_subscriber_kb", "S6", "sse-starlette"),
        0.25,
    ),
)


def _less(value: float | None, by: float) -> float | None:
    return None if value is None else value - by
