"""Which metrics there are, and which of them a query names."""

from __future__ import annotations

import re

from tests.architecture.pages import table, text_of

#: What Prometheus itself adds to what it scrapes.
PROMETHEUS_OWN = {"up", "ALERTS", "scrape_duration_seconds"}


def documented() -> set[str]:
    """Every metric of docs/metrics.md."""
    return {row[0].strip("`") for row in table(text_of("docs/metrics.md")) if "`refrain_" in row[0]}


def metrics_in(query: str) -> set[str]:
    """The metrics that a query names, a histogram by its own name."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(by|on) \([^)]*\)', "", query)
    named = set(re.findall(r"\b(?:refrain_\w+|scrape_\w+|up|ALERTS)\b", bare))
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in named}
