"""`refrain doctor` as an operator types it: exit status, JSON, no secrets, and an end whatever hangs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

import pytest

from tests.faults import FaultProxy, Mode
from tests.servers import standalone
from tests.system.processes import ROOT
from tests.system.scene import Simulate, Start

SECRET = "s3cret-of-this-test"


def doctor(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app.cli", "doctor", *arguments],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **env},
        cwd=ROOT,
        timeout=60,
        check=False,
    )


def findings(run: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    assert run.stderr == ""
    return {finding["check"]: finding for finding in json.loads(run.stdout)["findings"]}


def test_it_needs_nothing_to_be_configured() -> None:
    """The first thing that a new user types: status 0, one line for each look."""
    run = doctor("--port", "1")
    assert (run.returncode, run.stderr) == (0, "")
    lines = run.stdout.splitlines()
    assert lines[0].startswith("ok ")
    assert any(line.startswith("skipped") and "simulated model" in line for line in lines)


def test_a_running_gateway_and_its_upstream_are_well(simulate: Simulate, start: Start) -> None:
    """With a real answer of the simulated model: complete, with usage, and growing."""
    simulator = simulate(ttft=0, tps=0)
    with standalone("--maxmemory", "100mb", "--maxmemory-policy", "volatile-lfu") as redis:
        gateway = start(simulator, REDIS_URL=redis.url)
        port = gateway.url.rpartition(":")[2]
        run = doctor(
            "--json", "--call", "4", "--port", port, REDIS_URL=redis.url, OPENAI_BASE_URL=simulator.base_url
        )
    found = findings(run)
    assert run.returncode == 0
    assert json.loads(run.stdout)["verdict"] == "ok"
    assert "A gateway is on" in found["gateway.port"]["says"]
    assert "alive on it now" in found["redis.processes"]["says"]
    assert "first token after" in found["upstream.call"]["says"]
    for check in ("upstream.usage", "upstream.cumulative", "redis.commands"):
        assert found[check]["level"] == "ok", found[check]


def test_without_call_the_model_is_asked_nothing(simulate: Simulate) -> None:
    """A completion may cost money: only the list of models is read."""
    simulator = simulate()
    run = doctor("--json", "--port", "1", OPENAI_BASE_URL=simulator.base_url)
    assert findings(run)["upstream.call"]["level"] == "skipped"
    assert simulator.stats()["calls"] == 0
    assert doctor("--call", "--port", "1", OPENAI_BASE_URL=simulator.base_url).returncode == 0
    assert simulator.stats()["calls"] == 1


def test_a_model_that_fails_is_a_failure(simulate: Simulate) -> None:
    """Status 1, so that a script stops there."""
    simulator = simulate(fail_rate=1.0)
    run = doctor("--json", "--call", "--port", "1", OPENAI_BASE_URL=simulator.base_url)
    assert run.returncode == 1
    assert findings(run)["upstream.call"]["level"] == "failed"


@pytest.mark.parametrize("mode", [Mode.BLACKHOLE, Mode.REFUSE])
def test_it_ends_within_twenty_seconds_whatever_hangs(mode: Mode) -> None:
    """Redis, the upstream and the port all fail at once; and no secret is printed on any way out."""
    with standalone() as something, FaultProxy(something.port) as proxy:
        proxy.mode = mode
        run, took = timed(proxy.port)
    assert took < 20
    assert run.returncode == 1
    assert SECRET not in run.stdout + run.stderr
    failed = {check for check, finding in findings(run).items() if finding["level"] == "failed"}
    assert {"redis.reach", "gateway.port"} < failed
    assert failed & {"upstream.reach", "upstream.models"}


def timed(port: int) -> tuple[subprocess.CompletedProcess[str], float]:
    began = time.monotonic()
    run = doctor(
        "--json", "--call", "--port", str(port),
        REDIS_URL=f"redis://user:{SECRET}@127.0.0.1:{port}/0",
        OPENAI_BASE_URL=f"http://127.0.0.1:{port}/v1",
        OPENAI_API_KEY=SECRET,
        REFRAIN_API_KEYS=f"tenant:{SECRET}",
        REFRAIN_ADMIN_KEY=f"{SECRET}-admin",
    )  # fmt: skip
    return run, time.monotonic() - began


def test_settings_that_make_no_sense_are_status_two() -> None:
    """As `refrain check`: a sentence, no secret, and nothing is looked at."""
    run = doctor(REFRAIN_QUEUE_SIZE="-1", REFRAIN_API_KEYS=SECRET)
    assert (run.returncode, run.stdout) == (2, "")
    assert "REFRAIN_QUEUE_SIZE" in run.stderr
    assert SECRET not in run.stderr
    assert doctor("--call", "0").returncode == 2


def test_every_warning_of_check_is_a_finding() -> None:
    """Doors that are left open, and pools that contradict each other."""
    run = doctor("--host", "0.0.0.0", "--port", "1", REFRAIN_MAX_CONCURRENT_FOLLOWERS="1")
    assert run.returncode == 0
    advice = [line for line in run.stdout.splitlines() if line.startswith("warning  settings.advice")]
    assert len(advice) == 3
