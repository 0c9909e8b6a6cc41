"""Is tracing asked for, by OpenTelemetry's own variables, and can it be done?"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Final

#: Either switches tracing on.
ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SPOKEN: Final = "http/protobuf"
#: What the extra `otel` installs.
_NEEDED: Final = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter")


def asked_for(environ: Mapping[str, str]) -> bool:
    """An endpoint is set, and nothing switches the SDK or its traces off."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none":
        return False
    return any(environ.get(name, "").strip() for name in ENDPOINTS)


def problems(environ: Mapping[str, str]) -> list[str]:
    """Why the traces that are asked for cannot be made; a sentence each."""
    if not asked_for(environ):
        return []
    found = []
    if not all(map(_installed, _NEEDED)):
        found.append(
            "Traces are asked for (OTEL_EXPORTER_OTLP_ENDPOINT is set), but OpenTelemetry is not installed:"
            " install the extra refrain[otel], or set OTEL_SDK_DISABLED=true."
        )
    protocol = next((environ[name] for name in _PROTOCOLS if environ.get(name)), _SPOKEN)
    if protocol != _SPOKEN:
        found.append(f"OTEL_EXPORTER_OTLP_PROTOCOL must be {_SPOKEN}, which is all that is spoken here.")
    return found


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a package above it is missing
        return False
