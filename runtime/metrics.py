"""Every metric name, in one place. Names and labels are public interface: see docs/metrics.md.

No user, key or prompt is ever a label: all label values come from closed sets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

_WAITS = (0.001, 0.005, 0.025, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_RUNS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_TTFT = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60)

# A `_created` series beside every counter says nothing that a scrape does not.
disable_created_metrics()  # type: ignore[no-untyped-call]

STAGES = ("cache", "leaders", "followers", "llm_streams", "llm_calls")
#: One more stage, in a process that has tools.
TOOLS = "tools"
TOOL_STATUSES = ("ok", "failed", "timed_out", "refused", "cancelled")
STEP_STATUSES = ("done", "failed", "skipped", "streams")


@dataclass(frozen=True, slots=True)
class StageReading:
    """What a scrape shows of one stage. `admitted == released + reclaimed + in_use`, always."""

    name: str
    capacity: int
    in_use: int
    waiting: int
    max_waiting: int | None
    oldest_wait_s: float
    admitted: int
    released: int
    reclaimed: int = 0
    refused: dict[str, int] = field(default_factory=dict)


class Metrics:
    """The process's metrics. Counters are bound to their labels once, where the label set is closed."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        reg = self.registry
        waits = Histogram(
            "refrain_stage_wait_seconds", "Wait for a permit.", ["stage"], buckets=_WAITS, registry=reg
        )
        self.stage_wait = {stage: waits.labels(stage) for stage in STAGES}
        self.requests = Counter(
            "refrain_requests_total",
            "Requests by how they ended.",
            ["route", "role", "outcome"],
            registry=reg,
        )
        lookups = Counter("refrain_cache_requests_total", "Cache results.", ["result"], registry=reg)
        self.cache_results = {r: lookups.labels(r) for r in ("hit", "miss", "coalesced", "bypass")}
        calls = Counter("refrain_upstream_calls_total", "Calls of the model.", ["outcome"], registry=reg)
        self.upstream_calls = {
            outcome: calls.labels(outcome)
            for outcome in ("completed", "failed", "rate_limited", "rejected", "aborted")
        }
        self.joins = Counter(
            "refrain_joins_total", "Followers, by the phase they joined in.", ["phase"], registry=reg
        )
        self.ttft = Histogram(
            "refrain_ttft_seconds",
            "From a request's arrival to its first delta.",
            buckets=_TTFT,
            registry=reg,
        )
        tokens = Counter(
            "refrain_tokens_total", "Completion tokens delivered, by source.", ["source"], registry=reg
        )
        self.tokens = {source: tokens.labels(source) for source in ("llm", "coalesced", "cache")}
        self.tokens_saved = Counter(
            "refrain_tokens_saved_total", "Completion tokens delivered without being generated.", registry=reg
        )
        self.seconds_saved = Counter(
            "refrain_seconds_saved_total",
            "Seconds of preparation and of streams that answers would have taken, had they not been shared.",
            registry=reg,
        )
        self.redis_errors = Counter(
            "refrain_redis_errors_total", "Failed Redis operations.", ["op"], registry=reg
        )
        self.subscribers = Gauge("refrain_subscribers", "Open streams.", registry=reg)
        self.broadcasts = Gauge("refrain_broadcasts", "Broadcasts that have not ended.", registry=reg)
        self.upstream_in_flight = Gauge(
            "refrain_upstream_in_flight", "Open calls of the model.", registry=reg
        )
        self.turns_waiting = Gauge(
            "refrain_turns_waiting",
            "Turns of conversations that wait for the one before them.",
            registry=reg,
        )
        self.preparation = PreparationMetrics(reg, waits)

    def families(self) -> list[Family]:
        """Everything that this process has counted, as values that can be sent and added up."""
        return [
            Family(m.name, m.documentation, m.type, [(s.name, s.labels, s.value) for s in m.samples])
            for m in self.registry.collect()
        ]


class PreparationMetrics:
    """Of tools and workflows. Their names are the operator's, so that the labels are closed sets too."""

    def __init__(self, reg: CollectorRegistry, stage_waits: Histogram) -> None:
        self._stage_waits = stage_waits
        self.tool_calls = Counter(
            "refrain_tool_calls_total", "Calls of tools, by their results.", ["tool", "status"], registry=reg
        )
        self.tool_calls_shared = Counter(
            "refrain_tool_calls_shared_total",
            "Those that took part in the run of another.",
            ["tool"],
            registry=reg,
        )
        self.tool_seconds = Histogram(
            "refrain_tool_seconds", "Time of a tool's run.", ["tool"], buckets=_RUNS, registry=reg
        )
        self.tool_wait = Histogram(
            "refrain_tool_wait_seconds",
            "Wait of a tool's run for its rate and its slots.",
            ["tool"],
            buckets=_WAITS,
            registry=reg,
        )
        self.left_threads = Gauge(
            "refrain_tool_left_threads", "Threads of tools that run on after their time.", registry=reg
        )
        self.workflow_steps = Counter(
            "refrain_workflow_steps_total",
            "Steps of workflows, by how they ended.",
            ["workflow", "step", "status"],
            registry=reg,
        )
        self.step_seconds = Histogram(
            "refrain_workflow_step_seconds",
            "Time of a step.",
            ["workflow", "step"],
            buckets=_RUNS,
            registry=reg,
        )
        self.workflow_calls = Counter(
            "refrain_workflow_calls_total", "Calls of the model by steps.", ["workflow"], registry=reg
        )
        self.fallbacks = Counter(
            "refrain_workflow_fallbacks_total",
            "Steps that were answered by their second model.",
            ["workflow"],
            registry=reg,
        )
        self.inner_calls_shared = Counter(
            "refrain_inner_calls_shared_total",
            "Calls of the model that preparation saved, as another had asked the same.",
            registry=reg,
        )

    def expect(self, tools: Iterable[str], workflows: Mapping[str, Iterable[str]]) -> None:
        """There are these: what counts them begins at 0, so that a rate sees the first event too.

        Of each workflow the names of its steps.
        """
        for tool in tools:
            self._stage_waits.labels(TOOLS)
            self.tool_calls_shared.labels(tool)
            for status in TOOL_STATUSES:
                self.tool_calls.labels(tool, status)
        for workflow, steps in workflows.items():
            self.workflow_calls.labels(workflow)
            self.fallbacks.labels(workflow)
            for step, status in product(steps, STEP_STATUSES):
                self.workflow_steps.labels(workflow, step, status)

    def waited_for_a_slot(self, seconds: float) -> None:
        """For one of the slots of all tools."""
        self._stage_waits.labels(TOOLS).observe(seconds)


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its samples are (name, labels, value)."""

    name: str
    documentation: str
    type: str
    samples: list[tuple[str, dict[str, str], float]]


def render(families: Iterable[Family], stages: Iterable[StageReading], workers: int, restarts: int) -> bytes:
    """Prometheus text format. The stages' numbers are the same that `/pipeline` shows."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(families))
    registry.register(_StageCollector(lambda: stages))
    registry.register(_WorkerCollector(workers, restarts))
    return generate_latest(registry)


class _Families:
    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            metric = Metric(family.name, family.documentation, family.type)
            for name, labels, value in family.samples:
                metric.add_sample(name, labels, value)
            yield metric


class _WorkerCollector:
    def __init__(self, workers: int, restarts: int) -> None:
        self._workers = workers
        self._restarts = restarts

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("refrain_workers", "Processes that serve.", value=self._workers)
        yield CounterMetricFamily(
            "refrain_worker_restarts", "Workers that were started again.", value=self._restarts
        )


class _StageCollector:
    def __init__(self, read: Callable[[], Iterable[StageReading]]) -> None:
        self._read = read

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        label = ["stage"]
        capacity = GaugeMetricFamily("refrain_stage_capacity", "Permits of the stage.", labels=label)
        in_use = GaugeMetricFamily("refrain_stage_in_use", "Permits held.", labels=label)
        waiting = GaugeMetricFamily("refrain_stage_waiting", "Waiting for a permit.", labels=label)
        admitted = CounterMetricFamily("refrain_stage_admitted", "Permits granted.", labels=label)
        released = CounterMetricFamily("refrain_stage_released", "Permits given back.", labels=label)
        reclaimed = CounterMetricFamily(
            "refrain_permits_reclaimed",
            "Permits that a lease or the janitor took back: an alarm.",
            labels=label,
        )
        refused = CounterMetricFamily("refrain_stage_refused", "Refusals.", labels=["stage", "reason"])
        for stage in self._read():
            name = [stage.name]
            capacity.add_metric(name, stage.capacity)
            in_use.add_metric(name, stage.in_use)
            waiting.add_metric(name, stage.waiting)
            admitted.add_metric(name, stage.admitted)
            released.add_metric(name, stage.released)
            reclaimed.add_metric(name, stage.reclaimed)
            for reason, number in {"queue_full": 0, **stage.refused}.items():
                refused.add_metric([stage.name, reason], number)
        yield from (capacity, in_use, waiting, admitted, released, reclaimed, refused)
