"""The dashboard as a file: what Grafana would draw over each other, leave unexplained, or never find."""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any

import pytest
import yaml

from tests.architecture.pages import text_of
from tests.ops.dashboard import BOARD, PANELS, SHOWING, queries
from tests.ops.metric_names import PROMETHEUS_OWN, documented, metrics_in
from tests.system.processes import ROOT

KINDS = {"row", "stat", "bargauge", "timeseries", "table"}
WIDTH = 24


def test_every_query_asks_for_metrics_that_there_are() -> None:
    """A name that was changed leaves a panel empty without an error."""
    known = documented() | PROMETHEUS_OWN
    assert len(known) > 20
    unknown = {str(query): metrics_in(query.text) - known for query in queries()}
    assert {name: found for name, found in unknown.items() if found} == {}
    assert all(metrics_in(query.text) for query in queries())


def test_every_metric_is_on_a_panel() -> None:
    """What is counted and shown nowhere is found by nobody."""
    assert documented() - set().union(*(metrics_in(query.text) for query in queries())) == set()


def test_panels_have_an_id_each_and_a_place_of_their_own() -> None:
    """Grafana would move or lose the second one."""
    ids = [panel["id"] for panel in PANELS]
    assert len(set(ids)) == len(ids) > 20
    places = [panel["gridPos"] for panel in PANELS]
    assert all(place["x"] + place["w"] <= WIDTH for place in places)
    assert [pair for pair in combinations(places, 2) if overlap(*pair)] == []


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return all(
        one[at] < other[at] + other[size] and other[at] < one[at] + one[size]
        for at, size in (("x", "w"), ("y", "h"))
    )


def test_two_places_that_share_a_cell_overlap() -> None:
    """A search that finds nothing would pass for ever."""
    place = {"x": 0, "y": 0, "w": 4, "h": 4}
    assert overlap(place, place | {"x": 3, "y": 3})
    assert not overlap(place, place | {"x": 4})


@pytest.mark.parametrize("panel", SHOWING, ids=lambda panel: panel["title"])
def test_every_panel_explains_itself(panel: dict[str, Any]) -> None:
    """A kind that Grafana keeps, a unit, a sentence, legends that differ, the data source of choice."""
    assert panel["type"] in KINDS
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["description"].endswith(".")
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    legends = [target["legendFormat"] for target in panel["targets"]]
    assert all(legends)
    assert len(set(legends)) == len(legends)
    refs = [target["refId"] for target in panel["targets"]]
    assert len(set(refs)) == len(refs)


@pytest.mark.parametrize("panel", SHOWING, ids=lambda panel: panel["title"])
def test_every_panel_has_its_line_on_the_page(panel: dict[str, Any]) -> None:
    """docs/monitoring.md says what to read from it."""
    assert f"| {panel['title']} |" in text_of("docs/monitoring.md")


def test_every_query_honours_the_choice_of_job_and_instance() -> None:
    """Two installations in one Prometheus would be added up."""
    for query in queries():
        selectors = re.findall(r"(?<!ALERTS)\{([^}]*)\}", query.text)
        assert all('job=~"$job",instance=~"$instance"' in one for one in selectors), query


def test_variables_come_before_what_uses_them() -> None:
    """Grafana fills them in this order."""
    variables = BOARD["templating"]["list"]
    assert [one["name"] for one in variables] == ["datasource", "job", "instance"]
    assert variables[0]["query"] == "prometheus"
    assert all(one["datasource"]["uid"] == "${datasource}" for one in variables[1:])
    assert {name for one in variables[1:] for name in metrics_in(one["definition"])} == {"refrain_workers"}
    assert BOARD["schemaVersion"] >= 39


def test_compose_mounts_what_the_provisioning_names() -> None:
    """A dashboard in a folder that Grafana does not read is not there."""
    services = yaml.safe_load((ROOT / "deploy/docker-compose.yml").read_text())["services"]
    mounts = dict(mount.split(":")[1::-1] for mount in services["grafana"]["volumes"])
    folder = ROOT / "deploy/grafana/provisioning"
    (provider,) = yaml.safe_load((folder / "dashboards/refrain.yml").read_text())["providers"]
    assert mounts[provider["options"]["path"]] == "./grafana/dashboards"
    assert mounts["/etc/grafana/provisioning"] == "./grafana/provisioning"
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/refrain.json"
    (source,) = yaml.safe_load((folder / "datasources/prometheus.yml").read_text())["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == scraped["global"]["scrape_interval"]
