"""What Prometheus sees: with the operator's key and without, and of gateways that share one Redis."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.ops.load import ADMIN_KEY
from tests.ops.metric_names import documented
from tests.ops.prometheus import Prometheus, Scraped, configure
from tests.servers import until
from tests.system.processes import GatewayProcess, SimulatorProcess


def test_the_slots_of_the_model_are_not_added_up_over_instances(scraped: Scraped) -> None:
    """Two gateways on one Redis have two slots, not four; the leaders are each process's own: 2 x 2 and 2."""
    prometheus = scraped.prometheus
    capacity = 'max by (stage) (refrain_stage_capacity{stage="llm_streams"})'
    assert prometheus.at(capacity, scraped.end) == {frozenset({("stage", "llm_streams")}): [2.0]}
    leaders = 'sum by (stage) (refrain_stage_capacity{stage="leaders"})'
    assert prometheus.at(leaders, scraped.end) == {frozenset({("stage", "leaders")}): [6.0]}


def test_no_counter_goes_back_though_workers_were_killed(scraped: Scraped) -> None:
    """Prometheus would take it for a restart, and count everything twice."""
    counters = [name for name in documented() if name.endswith("_total")]
    assert len(counters) > 8
    for name in counters:
        resets = f"resets({name}[{int(scraped.end - scraped.begin) + 1}s])"
        found = scraped.prometheus.at(resets, scraped.end)
        assert found, name
        assert {labels for labels, values in found.items() if values != [0.0]} == set(), name


def test_all_samples_are_taken(scraped: Scraped) -> None:
    """A series that comes twice, or that Prometheus cannot read, would be dropped without a word."""
    taken = scraped.prometheus.over("scrape_samples_scraped", scraped.begin, scraped.end)
    kept = scraped.prometheus.over("scrape_samples_post_metric_relabeling", scraped.begin, scraped.end)
    assert len(taken) == len(scraped.instances)
    assert list(taken.values()) == list(kept.values())
    assert set(scraped.prometheus.health().values()) == {("up", "")}


@pytest.mark.parametrize(
    ("needed", "sent", "seen"),
    [
        (ADMIN_KEY, ADMIN_KEY, ("up", "")),
        (ADMIN_KEY, "another-key", ("down", "server returned HTTP status 401 Unauthorized")),
        (ADMIN_KEY, "", ("down", "server returned HTTP status 401 Unauthorized")),
        ("", "", ("up", "")),
    ],
    ids=["the key", "another key", "no key", "none needed"],
)
def test_metrics_are_scraped_with_the_operators_key_alone(
    tmp_path: Path, needed: str, sent: str, seen: tuple[str, str]
) -> None:
    """The shipped configuration, with the file that compose mounts; empty, where none is needed."""
    with ExitStack() as stack:
        simulator = SimulatorProcess()
        stack.callback(simulator.kill)
        gateway = GatewayProcess(simulator.base_url, workers=1, ADMIN_KEY=needed)
        stack.callback(gateway.kill)
        instance = gateway.url.removeprefix("http://")
        prometheus = Prometheus(configure(tmp_path, [instance], sent))
        stack.callback(prometheus.kill)
        until(lambda: prometheus.health().get(instance, ("unknown", ""))[0] != "unknown", "it was scraped")
        assert prometheus.health()[instance] == seen
