"""Traces, where they are asked for: docs/tracing.md. Where they are not, OpenTelemetry is not loaded."""
