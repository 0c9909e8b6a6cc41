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

from app.connection import SILENCE_S
from app.server import FLUSH_S, KEEP_ALIVE_S
from app.workers import EXTRA_S
from broadcast.beater import STARVED_S, guard_s
from broadcast.leading import WINDOW_S
from config.about import entries
from config.loading import load
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


def test_the_timeouts_of_the_proxy_are_above_those_of_the_gateway() -> None:
    """An answer that is not streamed is silent to its end: a shorter timeout would cut it as 504."""
    conf, s = (DEPLOY / "nginx.conf").read_text(), Settings()
    whole, stream = (float(seconds) for seconds in re.findall(r"proxy_read_timeout (\d+)s;", conf))
    assert whole > s.queue_timeout_s + s.prepare_timeout_s + s.slot_timeout_s + s.stream_timeout_s
    assert stream > 3 * SILENCE_S
    (idle,) = re.findall(r"keepalive_timeout (\d+)s;", conf)
    assert float(idle) < KEEP_ALIVE_S
    # The gateway asks for it in a header as well, so that no test can see this line fail.
    assert "proxy_buffering off;" in conf
    (largest,) = re.findall(r"client_max_body_size (\d+)m;", conf)
    assert int(largest) << 20 > s.max_body_bytes


def test_a_pod_starts_with_what_it_is_given() -> None:
    """An unknown REFRAIN_ name refuses the start, and Kubernetes adds some for every Service it finds."""
    env = document("ConfigMap", "refrain")["data"] | document("Secret", "refrain")["stringData"]
    if pod().get("enableServiceLinks", True):
        services = [each["metadata"]["name"] for _, each in DOCUMENTS if each["kind"] == "Service"]
        env |= {f"{name.replace('-', '_').upper()}_SERVICE_HOST": "10.0.0.1" for name in services}
    s = load(env)
    assert s.redis_url is not None
    redis = document("Service", "refrain-redis")
    assert (
        f"@{redis['metadata']['name']}:{redis['spec']['ports'][0]['port']}/" in s.redis_url.get_secret_value()
    )


def test_a_compose_gateway_starts_with_what_it_is_given() -> None:
    """Also where the operator's own environment has none of the names that it takes from there."""
    given = COMPOSE["x-gateway"]["environment"]
    s = load({name: re.sub(r"\$\{\w+-\}", "", value) for name, value in given.items()})
    assert s.redis_url is not None
    assert "$" not in "".join(str(value) for value in s.model_dump().values())


def test_a_pod_has_room_for_its_workers() -> None:
    """docs/operations.md: per worker 100 MiB, the in-process layer and what is retained; and a core each."""
    s = load(dict(document("ConfigMap", "refrain")["data"]))
    (container,) = pod()["containers"]
    most_mib = s.web_concurrency * (100 + (s.local_cache_bytes + s.retention_bytes) / (1 << 20))
    assert container["resources"]["limits"]["memory"] == "2Gi"
    assert 1.5 * most_mib < 2 * 1024
    assert int(container["resources"]["requests"]["cpu"]) >= s.web_concurrency


def test_redis_of_kubernetes_is_as_the_page_says() -> None:
    """The same settings and the same user, in less memory than kills it."""
    conf = document("Secret", "refrain-redis")["stringData"]["redis.conf"].splitlines()
    page = (ROOT / "docs/operations.md").read_text().splitlines()
    assert set(conf) - {"user default off"} <= set(page)
    assert {"maxmemory 1gb", "maxmemory-policy volatile-lfu", "appendonly no", 'save ""'} <= set(conf)
    spec = document("Deployment", "refrain-redis")["spec"]["template"]["spec"]
    assert spec["volumes"][0]["secret"]["secretName"] == "refrain-redis"
    (container,) = spec["containers"]
    assert container["args"] == [f"{container['volumeMounts'][0]['mountPath']}/redis.conf"]
    assert int(container["resources"]["limits"]["memory"].removesuffix("Mi")) > 1024 * 5 // 4


def test_what_the_probes_ask_for_is_served() -> None:
    """A probe of a path that is none would restart every pod for ever."""
    served = (ROOT / "docs/api.md").read_text()
    (container,) = pod()["containers"]
    paths = {
        kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("readiness", "liveness", "startup")
    }
    assert paths == {"readiness": "/readyz", "liveness": "/healthz", "startup": "/healthz"}
    assert all(f"| `GET {path}` |" in served for path in paths.values())
    assert "http://127.0.0.1:8484/readyz" in (ROOT / "Dockerfile").read_text()


def test_the_page_names_settings_and_metrics_that_there_are() -> None:
    """An alarm on a metric that does not exist never sounds."""
    page = (ROOT / "docs/operations.md").read_text()
    named = set(re.findall(r"\brefrain_[a-z_]+", page))
    known = set(re.findall(r"`(refrain_[a-z_]+)`", (ROOT / "docs/metrics.md").read_text()))
    assert len(named) > 5
    assert named <= known
    assert set(re.findall(r"REFRAIN_[A-Z_]+", page)) <= environment_names() | {"REFRAIN_PORT"}


def test_the_numbers_of_the_page_are_those_of_the_code() -> None:
    """An operator plans with them."""
    page, s = (ROOT / "docs/operations.md").read_text(), Settings()
    assert f"`REFRAIN_LEASE_S` ({s.lease_s:g})" in page
    silent = s.queue_timeout_s + s.prepare_timeout_s + s.slot_timeout_s + s.stream_timeout_s
    assert f"({silent:g} s by default)" in page
    assert f"about {guard_s(s.lease_s):g} s (a beat and 0.5 s)" in page
    assert f"for over {STARVED_S:g} s" in page
    assert f"at most every {WINDOW_S * 1000:g} ms" in page
    assert f"{FLUSH_S:g} s for the last bytes, {EXTRA_S:g} s for a worker that hangs" in page
    assert f"`REFRAIN_LOCAL_CACHE_BYTES` ({s.local_cache_bytes >> 20} MiB)" in page


def test_every_command_of_a_script_is_on_the_list_of_the_page() -> None:
    """With one missing, Redis refuses the script, and what it stands for waits until a timeout."""
    (line,) = re.findall(r"^user refrain .*$", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)
    scripts = "\n".join(path.read_text() for path in (ROOT / "cache/lua").glob("*.lua"))
    used = {name.lower() for name in re.findall(r"redis\.p?call\('(\w+)'", scripts)}
    assert len(used) > 10
    assert used <= {word.removeprefix("+") for word in line.split() if word.startswith("+")}
