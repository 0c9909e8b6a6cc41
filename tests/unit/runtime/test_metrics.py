"""Metrics: the documented names and labels, and the stages' own numbers."""

from __future__ import annotations

import re

from prometheus_client.parser import text_string_to_metric_families

from runtime.metrics import STAGES, Metrics, StageReading, render

#: Name → labels, as they are promised to dashboards.
PROMISED = {
    "refrain_stage_capacity": {"stage"},
    "refrain_stage_in_use": {"stage"},
    "refrain_stage_waiting": {"stage"},
    "refrain_stage_wait_seconds": {"stage"},
    "refrain_stage_admitted_total": {"stage"},
    "refrain_stage_released_total": {"stage"},
    "refrain_permits_reclaimed_total": {"stage"},
    "refrain_stage_refused_total": {"stage", "reason"},
    "refrain_requests_total": {"route", "role", "outcome"},
    "refrain_cache_requests_total": {"result"},
    "refrain_upstream_calls_total": {"outcome"},
    "refrain_upstream_in_flight": set(),
    "refrain_broadcasts": set(),
    "refrain_subscribers": set(),
    "refrain_turns_waiting": set(),
    "refrain_joins_total": {"phase"},
    "refrain_ttft_seconds": set(),
    "refrain_tokens_total": {"source"},
    "refrain_tokens_saved_total": set(),
    "refrain_seconds_saved_total": set(),
    "refrain_redis_errors_total": {"op"},
    "refrain_tool_calls_total": {"tool", "status"},
    "refrain_tool_calls_shared_total": {"tool"},
    "refrain_tool_seconds": {"tool"},
    "refrain_tool_wait_seconds": {"tool"},
    "refrain_tool_left_threads": set(),
    "refrain_workflow_steps_total": {"workflow", "step", "status"},
    "refrain_workflow_step_seconds": {"workflow", "step"},
    "refrain_workflow_calls_total": {"workflow"},
    "refrain_workflow_fallbacks_total": {"workflow"},
    "refrain_inner_calls_shared_total": set(),
    "refrain_workers": set(),
    "refrain_worker_restarts_total": set(),
}


def filled() -> bytes:
    """Every family has a sample."""
    metrics = Metrics()
    metrics.requests.labels("chat", "leader", "completed").inc()
    metrics.joins.labels("live").inc()
    metrics.redis_errors.labels("get").inc()
    metrics.preparation.expect(["weather"], {"review": ["read", "sum-up"]})
    for waits in (metrics.preparation.tool_seconds, metrics.preparation.tool_wait):
        waits.labels("weather").observe(1)
    metrics.preparation.step_seconds.labels("review", "read").observe(1)
    stages = [
        StageReading(
            name, 3, 1, 2, None, 0.5, admitted=10, released=8, reclaimed=1, refused={"queue_timeout": 4}
        )
        for name in STAGES
    ]
    return scraped(metrics, *stages)


def scraped(metrics: Metrics, *stages: StageReading) -> bytes:
    return render(metrics.families(), stages, workers=3, restarts=2)


def samples(page: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def test_every_promised_name_is_served_with_its_labels_and_no_other() -> None:
    """Dashboards and alerts rely on them; and a label from an open set would hold a user or a prompt."""
    served: dict[str, set[str]] = {}
    for name, labels in samples(filled()):
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        served.setdefault(base, set()).update({label for label, _ in labels} - {"le"})
    assert served == PROMISED


def test_the_stages_numbers_are_shown() -> None:
    """Row 99: a scrape shows one moment, in which admitted = released + reclaimed + in use."""
    label = (("stage", "leaders"),)
    reading = StageReading("leaders", 2, 1, 3, 5, 0.0, admitted=9, released=7, reclaimed=1)
    seen = samples(scraped(Metrics(), reading))
    assert [
        seen[f"refrain_{name}", label]
        for name in (
            "stage_capacity",
            "stage_in_use",
            "stage_waiting",
            "stage_admitted_total",
            "stage_released_total",
            "permits_reclaimed_total",
        )
    ] == [2, 1, 3, 9, 7, 1]


def test_workers_and_their_restarts_are_shown() -> None:
    """An alert on restarts needs the series before the first."""
    seen = samples(scraped(Metrics()))
    assert (seen["refrain_workers", ()], seen["refrain_worker_restarts_total", ()]) == (3, 2)


def test_refusals_are_counted_by_reason_from_zero_on() -> None:
    """An alert on `queue_full` needs the series before the first refusal."""
    seen = samples(scraped(Metrics(), StageReading("leaders", 2, 0, 0, 5, 0.0, 0, 0)))
    assert seen["refrain_stage_refused_total", (("reason", "queue_full"), ("stage", "leaders"))] == 0
    seen = samples(filled())
    assert seen["refrain_stage_refused_total", (("reason", "queue_timeout"), ("stage", "cache"))] == 4


def test_every_stage_has_its_wait_histogram() -> None:
    """Also before anybody waited; and a wait is counted in seconds."""
    metrics = Metrics()
    metrics.stage_wait["leaders"].observe(0.5)
    seen = samples(scraped(metrics))
    counts = {stage: seen["refrain_stage_wait_seconds_count", (("stage", stage),)] for stage in STAGES}
    assert counts == {"cache": 0, "leaders": 1, "followers": 0, "llm_streams": 0, "llm_calls": 0}
    assert seen["refrain_stage_wait_seconds_sum", (("stage", "leaders"),)] == 0.5


def test_tools_and_workflows_are_counted_from_zero_on() -> None:
    """An alert on a tool's failures needs the series before the first; the stage is there with the tools."""
    metrics = Metrics()
    assert 'stage="tools"' not in scraped(metrics).decode(), "a process without tools has no such stage"
    metrics.preparation.expect(["weather"], {"review": ["read", "sum-up"]})
    seen = samples(scraped(metrics))
    for status in ("ok", "failed", "timed_out", "refused"):
        label = (("status", status), ("tool", "weather"))
        assert seen["refrain_tool_calls_total", label] == 0
    steps = {
        labels: value for (name, labels), value in seen.items() if name == "refrain_workflow_steps_total"
    }
    assert steps == {
        (("status", status), ("step", step), ("workflow", "review")): 0
        for status in ("done", "failed", "skipped", "streams")
        for step in ("read", "sum-up")
    }
    assert seen["refrain_tool_calls_shared_total", (("tool", "weather"),)] == 0
    assert seen["refrain_workflow_calls_total", (("workflow", "review"),)] == 0
    assert seen["refrain_workflow_fallbacks_total", (("workflow", "review"),)] == 0
    metrics.preparation.waited_for_a_slot(0.5)
    assert seen["refrain_stage_wait_seconds_count", (("stage", "tools"),)] == 0
    assert samples(scraped(metrics))["refrain_stage_wait_seconds_sum", (("stage", "tools"),)] == 0.5


def test_two_processes_parts_do_not_share_numbers() -> None:
    """A registry of its own: nothing global, nothing left from another test or another gateway."""
    one, other = Metrics(), Metrics()
    one.tokens_saved.inc(5)
    assert samples(scraped(other))["refrain_tokens_saved_total", ()] == 0
