"""When traces are made, and what is said if they cannot be."""

from __future__ import annotations

import subprocess
import sys

import pytest

from app.telemetry import asked
from app.telemetry.asked import asked_for, problems
from tests.architecture.tree import ROOT

URL = "http://collector:4318"
GENERAL, TRACES = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, False),
        ({GENERAL: URL}, True),
        ({TRACES: URL}, True),
        ({GENERAL: "  "}, False),
        ({GENERAL: URL, "OTEL_SDK_DISABLED": "true"}, False),
        ({GENERAL: URL, "OTEL_SDK_DISABLED": "TRUE "}, False),
        ({GENERAL: URL, "OTEL_SDK_DISABLED": "false"}, True),
        ({GENERAL: URL, "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_SERVICE_NAME": "refrain"}, False),
    ],
)
def test_the_standard_variables_switch_it_on_and_off(environ: dict[str, str], expected: bool) -> None:
    """An operator who has configured OpenTelemetry for other services knows them already."""
    assert asked_for(environ) is expected
    assert problems(environ) == []


def test_what_is_asked_for_and_not_installed_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that silently does not trace is found out when the trace is needed."""
    monkeypatch.setattr(asked, "_NEEDED", ("opentelemetry.sdk.trace", "nowhere.to.be.found"))
    (problem,) = problems({GENERAL: URL})
    assert "refrain[otel]" in problem
    assert problems({}) == []
    assert problems({GENERAL: URL, "OTEL_SDK_DISABLED": "true"}) == []


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"])
def test_a_protocol_that_is_not_spoken_is_a_problem(name: str) -> None:
    """The exporter would ignore it, and send to a port where nobody understands."""
    (problem,) = problems({GENERAL: URL, name: "grpc"})
    assert "http/protobuf" in problem
    assert problems({GENERAL: URL, name: "http/protobuf"}) == []


def test_without_traces_the_extra_is_neither_needed_nor_loaded() -> None:
    """It costs memory and time at the start. (Its bare API comes with FastAPI, which imports it.)"""
    check = """
import sys
sys.modules.update({"opentelemetry.sdk": None, "opentelemetry.exporter": None, "opentelemetry.proto": None})
import app.main, app.serving, app.worker
from tests.fakes.running_app import application
assert application().state.gateway.tracing is None
print("app.telemetry.tracing" in sys.modules, "app.telemetry.otel" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "True False", done.stderr
