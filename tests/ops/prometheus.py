"""Debian's Prometheus under test: the shipped configuration, scraping real gateways once a second."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode

import yaml

from tests.servers import free_port, until
from tests.system.processes import ROOT, fetch

SHIPPED = ROOT / "deploy/prometheus"
START_S = 30.0
#: What a series shows over time, by its labels.
Series = dict[frozenset[tuple[str, str]], list[float]]


def configure(folder: Path, targets: list[str], key: str) -> Path:
    """The shipped configuration in `folder`: other targets, the key in a file there, a scrape a second."""
    config: dict[str, Any] = yaml.safe_load((SHIPPED / "prometheus.yml").read_text())
    config["global"] = dict.fromkeys(config["global"], "1s")
    (job,) = config["scrape_configs"]
    (folder / "key").write_text(key)
    job["authorization"]["credentials_file"] = str(folder / "key")
    job["static_configs"] = [{"targets": targets}]
    for rules in config["rule_files"]:
        shutil.copy(SHIPPED / rules, folder / rules)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    return folder / "prometheus.yml"


class Prometheus:
    """One server; `kill` it at the end."""

    def __init__(self, config: Path) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self._log = config.with_suffix(".log")
        command = [
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={config.parent / 'data'}",
            f"--web.listen-address={self.url.removeprefix('http://')}",
            "--web.external-url=/",
        ]
        with self._log.open("wb") as log:
            self._popen = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            until(self._ready, "Prometheus is ready", START_S)
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait(10)

    def _ready(self) -> bool:
        assert self._popen.poll() is None, self._log.read_text()
        try:
            return bool(fetch(self.url + "/-/ready"))
        except URLError:
            return False

    def ask(self, path: str, **parameters: object) -> Any:
        reply = json.loads(fetch(f"{self.url}/api/v1/{path}?{urlencode(parameters)}"))
        assert reply["status"] == "success", reply
        return reply["data"]

    def value(self, query: str) -> float:
        """The sum over all series now; 0 where there are none."""
        return sum(float(one["value"][1]) for one in self.ask("query", query=query)["result"])

    def over(self, query: str, begin: float, end: float) -> Series:
        """Each series over that time, second by second, without its NaNs: Grafana draws none for them."""
        found = self.ask("query_range", query=query, start=begin, end=end, step=1)["result"]
        return {frozenset(one["metric"].items()): _numbers(one["values"]) for one in found}

    def at(self, query: str, when: float) -> Series:
        """Each series at that moment."""
        found = self.ask("query", query=query, time=when)["result"]
        return {frozenset(one["metric"].items()): _numbers([one["value"]]) for one in found}

    def health(self) -> dict[str, tuple[str, str]]:
        """Each target's address, to `up` or `down` and the last error."""
        active = self.ask("targets", state="active")["activeTargets"]
        return {one["labels"]["instance"]: (one["health"], one["lastError"]) for one in active}


@dataclass(frozen=True)
class Scraped:
    """What one Prometheus has seen, and from when to when."""

    prometheus: Prometheus
    instances: list[str]
    begin: float
    end: float


def _numbers(pairs: list[tuple[float, str]]) -> list[float]:
    values = (float(text) for _, text in pairs)
    return [value for value in values if not math.isnan(value)]
