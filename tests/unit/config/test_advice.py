"""Warnings: one sentence for each contradiction, and silence when there is none."""

from __future__ import annotations

import pytest

from config import load, warnings


def test_the_defaults_contradict_nothing() -> None:
    """Whoever sets nothing is told nothing."""
    assert warnings(load({})) == []


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"REFRAIN_MAX_CONCURRENT_FOLLOWERS": "31"}, "REFRAIN_MAX_CONCURRENT_FOLLOWERS (31) is less than"),
        ({"REFRAIN_MAX_PENDING": "63"}, "REFRAIN_MAX_CONCURRENT_LLM_STREAMS (64) is more than"),
        (
            {"REFRAIN_MAX_PENDING": "100", "REFRAIN_MAX_CONCURRENT_LEADERS": "101"},
            "REFRAIN_MAX_CONCURRENT_LEADERS (101) is more than",
        ),
        (
            {"REFRAIN_PREPARE_MODEL": "planner", "REFRAIN_MAX_CONCURRENT_LEADERS": "17"},
            "wait for each other's calls of the model",
        ),
        (
            {"REFRAIN_WORKFLOWS": "flows", "REFRAIN_MAX_CONCURRENT_LLM_CALLS": "31"},
            "REFRAIN_WORKFLOWS is set and REFRAIN_MAX_CONCURRENT_LLM_CALLS",
        ),
        ({"REFRAIN_MAX_CONCURRENT_TOOLS": "8"}, "REFRAIN_MAX_CONCURRENT_TOOLS is set and has no effect"),
        ({"REFRAIN_TOOL_ROUNDS": "4"}, "has no effect without REFRAIN_TOOLS or REFRAIN_TOOLS_FILE"),
        ({"REFRAIN_WORKFLOW_MODEL": "m"}, "REFRAIN_WORKFLOW_MODEL is set and has no effect without"),
        ({"REFRAIN_LOCAL_CACHE_BYTES": "1000"}, "REFRAIN_LOCAL_CACHE_BYTES is less than"),
        ({"REFRAIN_RETENTION_BYTES": "1000"}, "REFRAIN_RETENTION_BYTES is less than"),
        ({"REFRAIN_EMBEDDED_REDIS_BYTES": "2MiB"}, "REFRAIN_EMBEDDED_REDIS_BYTES leaves no room"),
        ({"REFRAIN_ABANDON_POLICY": "finish", "REFRAIN_CACHE_TTL_S": "0"}, "thrown away"),
        ({"REFRAIN_API_KEYS": "a:12345678", "REFRAIN_ADMIN_KEY": "12345678"}, "is an administrator"),
    ],
)
def test_each_contradiction_is_one_sentence(environ: dict[str, str], words: str) -> None:
    """It names the settings that do not fit together."""
    [sentence] = warnings(load(environ))
    assert words in sentence
    assert sentence.endswith(".")


@pytest.mark.parametrize(
    "environ",
    [
        {"REFRAIN_LOCAL_CACHE_BYTES": "0"},
        {"REFRAIN_EMBEDDED_REDIS_BYTES": "1MiB", "REDIS_URL": "redis://h"},
        {"REFRAIN_PREPARE_MODEL": "planner"},
        {"REFRAIN_PREPARE_MODEL": "planner", "REFRAIN_MAX_CONCURRENT_LLM_CALLS": "32"},
        {
            "REFRAIN_TOOLS": "mine:TOOLS",
            "REFRAIN_MAX_CONCURRENT_TOOLS": "8",
            "REFRAIN_TOOL_ROUNDS": "2",
            "REFRAIN_MAX_CONCURRENT_LLM_CALLS": "32",
        },
        {
            "REFRAIN_TOOLS_FILE": "mine.yaml",
            "REFRAIN_TOOL_ROUNDS": "2",
            "REFRAIN_WORKFLOWS": "flows",
            "REFRAIN_WORKFLOW_MODEL": "m",
            "REFRAIN_MAX_CONCURRENT_LLM_CALLS": "32",
        },
    ],
)
def test_what_is_switched_off_contradicts_nothing(environ: dict[str, str]) -> None:
    """A pool that is not used cannot be too small."""
    assert warnings(load(environ)) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost"])
def test_an_open_gateway_on_loopback_is_fine(host: str) -> None:
    """It is how one tries it out."""
    assert warnings(load({}, {"host": host})) == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "gateway.example"])
def test_open_doors_beyond_loopback_are_named(host: str) -> None:
    """Whoever can reach it may spend the model's budget and read the metrics."""
    callers, operators = warnings(load({}, {"host": host}))
    assert "API keys" in callers
    assert "REFRAIN_ADMIN_KEY" in operators
    guarded = {"REFRAIN_API_KEYS": "a:12345678", "REFRAIN_ADMIN_KEY": "87654321"}
    assert warnings(load(guarded, {"host": host})) == []
