"""deploy/: what cannot be run here is parsed, checked against strict schemas, and held against the code."""

from __future__ import annotations

import json
import re
from functools import cache
from itertools import chain
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from app.server import FLUSH_S
from app.workers import EXTRA_S
from config.about import entries
from config.settings import Settings
from tests.architecture.tree import ROOT

DEPLOY = ROOT / "deploy"
KUBERNETES = sorted([*(DEPLOY / "kubernetes").glob("*.yaml"), DEPLOY / "kubernetes/secret.example"])
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text())
DOCUMENTS = [
    (path.name, document) for path in KUBERNETES for document in yaml.safe_load_all(path.read_text())
]


@cache
def validator(kind: str) -> Draft202012Validator:
    schema = json.loads((DEPLOY / f"schemas/{kind}.json").read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def document(kind: str, name: str) -> dict[str, Any]:
    (found,) = [each for _, each in DOCUMENTS if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return dict(found)


def pod() -> dict[str, Any]:
    return dict(document("Deployment", "refrain")["spec"]["template"]["spec"])


def environment_names() -> set[str]:
    return {one.name for one in entries(Settings.model_fields).values() if one.name}


def drain_s() -> float:
    return float(document("ConfigMap", "refrain")["data"]["REFRAIN_DRAIN_TIMEOUT_S"])


@pytest.mark.parametrize(
    ("file", "found"), DOCUMENTS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_each_manifest_is_what_its_kind_may_be(file: str, found: dict[str, Any]) -> None:
    """A field with a typing error is ignored by the cluster, and found out in the worst moment."""
    errors = [error.message for error in validator(found["kind"]).iter_errors(found)]
    assert errors == [], file


def test_the_compose_file_is_one() -> None:
    """As above."""
    assert [error.message for error in validator("Compose").iter_errors(COMPOSE)] == []


def test_a_schema_refuses_what_it_does_not_know() -> None:
    """A schema that takes everything would prove nothing."""
    broken = document("Deployment", "refrain")
    broken["spec"]["template"]["spec"]["terminationGracePeriod"] = 5
    assert list(validator("Deployment").iter_errors(broken))


def test_a_pod_is_given_more_time_than_it_takes_to_stop() -> None:
    """A kill in the middle of the drain would cut every stream that drains."""
    (container,) = pod()["containers"]
    before = float(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert before >= 2 * container["readinessProbe"]["periodSeconds"]
    assert pod()["terminationGracePeriodSeconds"] > before + drain_s() + FLUSH_S + EXTRA_S


def test_compose_waits_for_the_drain() -> None:
    """The same, for `docker compose stop`."""
    gateway = COMPOSE["x-gateway"]
    drains = float(gateway["environment"]["REFRAIN_DRAIN_TIMEOUT_S"])
    assert float(gateway["stop_grace_period"].removesuffix("s")) > drains + FLUSH_S


def test_every_setting_that_is_given_is_one() -> None:
    """What no process reads is a limit that nobody has."""
    given = chain(
        COMPOSE["x-gateway"]["environment"],
        document("ConfigMap", "refrain")["data"],
        document("Secret", "refrain")["stringData"],
    )
    assert set(given) <= environment_names()


def test_three_gateways_stand_behind_the_proxy_on_the_port_they_listen_on() -> None:
    """A port that differs would be found out at the first request."""
    port = Settings.model_fields["port"].default
    gateways = {
        name for name, service in COMPOSE["services"].items() if service.get("image") == "refrain:latest"
    }
    assert len(gateways) == 3
    conf = (DEPLOY / "nginx.conf").read_text()
    assert set(re.findall(r"server (gateway-\d):(\d+) ", conf)) == {(name, str(port)) for name in gateways}
    listens = re.findall(r"listen (\d+);", conf)
    assert COMPOSE["services"]["proxy"]["ports"] == [f"{port}:{listens[0]}"]
    (container,) = pod()["containers"]
    assert container["ports"][0]["containerPort"] == port
    assert f"EXPOSE {port}" in (ROOT / "Dockerfile").read_text()


def test_the_selectors_find_the_pods() -> None:
    """A service without pods answers nobody."""
    labels = document("Deployment", "refrain")["spec"]["template"]["metadata"]["labels"]
    assert document("Service", "refrain")["spec"]["selector"] == labels
    assert document("PodDisruptionBudget", "refrain")["spec"]["selector"]["matchLabels"] == labels
    assert document("PodDisruptionBudget", "refrain")["spec"]["maxUnavailable"] < 3


def test_redis_evicts_only_what_has_a_lifetime_and_writes_nothing() -> None:
    """docs/operations.md says why; allkeys-* would evict the epochs."""
    command = COMPOSE["services"]["redis"]["command"]
    assert command[command.index("--maxmemory-policy") + 1] == "volatile-lfu"
    assert command[command.index("--appendonly") + 1] == "no"
    page = (ROOT / "docs/operations.md").read_text()
    assert "maxmemory-policy volatile-lfu" in page


def test_the_image_runs_without_rights_and_hears_its_signals() -> None:
    """A shell between them would swallow SIGTERM."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    (user,) = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert user.split(":")[0] == str(pod()["securityContext"]["runAsUser"])
    assert 'ENTRYPOINT ["refrain"]' in lines
    assert any(line.startswith('CMD ["serve"') for line in lines)
