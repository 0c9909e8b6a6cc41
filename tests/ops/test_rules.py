"""The alert rules and the scrape configuration, as Prometheus' own promtool reads them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.architecture.pages import anchors, section, text_of
from tests.ops.metric_names import PROMETHEUS_OWN, documented, metrics_in
from tests.ops.prometheus import SHIPPED, configure
from tests.system.processes import ROOT

PAGE = "docs/monitoring.md"
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((SHIPPED / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
EACH = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["promtool", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_promtool_accepts_the_rules_and_their_tests() -> None:
    """A rule file with an error stops Prometheus at its start, and a rule that never sounds is worse."""
    checked = promtool("check", "rules", SHIPPED / "alerts.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    tested = promtool("test", "rules", SHIPPED / "alerts_test.yml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_promtool_accepts_the_configuration(tmp_path: Path) -> None:
    """As it is shipped; and, with the key's file where it says, in all that it refers to."""
    shipped = promtool("check", "config", "--syntax-only", SHIPPED / "prometheus.yml")
    assert shipped.returncode == 0, shipped.stdout + shipped.stderr
    whole = promtool("check", "config", configure(tmp_path, ["127.0.0.1:1"], "a-key"))
    assert whole.returncode == 0, whole.stdout + whole.stderr
    assert f"{len(RULES)} rules found" in whole.stdout


@EACH
def test_a_rule_that_never_sounds_would_be_found(rule: dict[str, Any], tmp_path: Path) -> None:
    """Each alert has a test of its own in alerts_test.yml, which fails without it."""
    rules = yaml.safe_load((SHIPPED / "alerts.yml").read_text())
    for one in rules["groups"][0]["rules"]:
        if one["alert"] == rule["alert"]:
            one["expr"] = "vector(0) > 1"
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(rules))
    tests = yaml.safe_load((SHIPPED / "alerts_test.yml").read_text())
    tests["tests"] = [one for one in tests["tests"] if rule["alert"] in str(one.get("alert_rule_test"))]
    (tmp_path / "alerts_test.yml").write_text(yaml.safe_dump(tests))
    tested = promtool("test", "rules", tmp_path / "alerts_test.yml")
    assert tested.returncode == 1
    assert rule["alert"] in tested.stdout + tested.stderr


@EACH
def test_a_rule_asks_for_metrics_that_there_are(rule: dict[str, Any]) -> None:
    """An alarm on a metric that does not exist never sounds."""
    assert metrics_in(rule["expr"])
    assert metrics_in(rule["expr"]) <= documented() | PROMETHEUS_OWN


@EACH
def test_a_rule_tells_what_to_do(rule: dict[str, Any]) -> None:
    """Whoever is woken follows the link, and finds the meaning, the steps, and why the threshold is so."""
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert (page, anchor) == (PAGE, rule["alert"].lower())
    assert anchor in anchors(ROOT / PAGE)
    said = section(PAGE, rule["alert"])
    assert all(f"**{part}.**" in said for part in ("Means", "Do", "Threshold"))


@EACH
def test_the_page_has_the_numbers_of_the_rule(rule: dict[str, Any]) -> None:
    """A threshold that was changed in one place only would explain the other one."""
    (row,) = re.findall(rf"^\| \[{rule['alert']}\]\(.*$", text_of(PAGE), re.MULTILINE)
    _, severity, wait = (cell.strip() for cell in row.strip("|").split("|")[:3])
    assert (severity, wait) == (rule["labels"]["severity"], rule.get("for", "at once"))


def test_the_page_lists_no_alert_that_is_gone() -> None:
    """Somebody would wait for it in vain."""
    listed = re.findall(r"^\| \[(Refrain\w+)\]", text_of(PAGE), re.MULTILINE)
    assert sorted(listed) == sorted(rule["alert"] for rule in RULES)


def test_the_job_of_the_rules_is_the_one_that_is_scraped() -> None:
    """Under another name, `up` would be asked for in vain."""
    (job,) = yaml.safe_load((SHIPPED / "prometheus.yml").read_text())["scrape_configs"]
    named = set(re.findall(r'job="(\w+)"', (SHIPPED / "alerts.yml").read_text()))
    assert named == {job["job_name"]}


def test_compose_scrapes_every_gateway_with_the_key_that_it_mounts() -> None:
    """A gateway that is not scraped is never missed, and a key in another place opens nothing."""
    services = yaml.safe_load((ROOT / "deploy/docker-compose.yml").read_text())["services"]
    (job,) = yaml.safe_load((SHIPPED / "prometheus.yml").read_text())["scrape_configs"]
    (targets,) = (config["targets"] for config in job["static_configs"])
    gateways = [name for name, one in services.items() if one["image"] == "refrain:latest"]
    assert targets == [f"{name}:8484" for name in gateways]
    mounts = [volume.rsplit(":", 2)[-2:] for volume in services["prometheus"]["volumes"]]
    assert [job["authorization"]["credentials_file"], "ro"] in mounts
