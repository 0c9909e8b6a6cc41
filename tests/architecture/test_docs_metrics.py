"""docs/metrics.md names exactly the metrics that are served: names, types, labels and the labels' values."""

from __future__ import annotations

import re

from prometheus_client.parser import text_string_to_metric_families

from broadcast.lifecycle import RUNNING
from broadcast.outcome import Outcome
from chatbot.record import CacheResult, Role
from chatbot.via import NATIVE, OPENAI
from processing.tools.events import UNKNOWN
from processing.tools.results import Status
from runtime.errors import QueueFull, QueueTimeout
from runtime.metrics import STAGES, STEP_STATUSES, TOOL_STATUSES, TOOLS, Metrics, StageReading, render
from tests.architecture.pages import quoted, section, table, text_of
from tests.architecture.tree import PACKAGES, ROOT, sources

PAGE = "docs/metrics.md"


def served() -> dict[str, tuple[str, frozenset[str]]]:
    """Every metric of a scrape: its name as it is queried, its type, its labels."""
    metrics = Metrics()
    # A metric whose labels have no closed set of its own shows them only once they are used.
    metrics.requests.labels("chat", "leader", "completed")
    metrics.joins.labels("live")
    metrics.redis_errors.labels("get")
    metrics.preparation.expect(["tool"], {"workflow": ["step"]})
    metrics.preparation.tool_seconds.labels("tool")
    metrics.preparation.tool_wait.labels("tool")
    metrics.preparation.step_seconds.labels("workflow", "step")
    stages = [StageReading("cache", 1, 0, 0, 0, 0.0, 0, 0)]
    page = render(metrics.families(), stages, workers=1, restarts=0)
    families = list(text_string_to_metric_families(page.decode()))
    assert all(family.samples for family in families), "label it here as well, so that its labels are seen"
    return {
        family.name + ("_total" if family.type == "counter" else ""): (
            family.type,
            frozenset(label for sample in family.samples for label in sample.labels if label != "le"),
        )
        for family in families
    }


def test_the_metrics_page_lists_every_metric_with_its_type_and_labels() -> None:
    """Dashboards are written from that page: none missing, none too many."""
    documented = {
        row[0].strip("`"): (row[1], frozenset(quoted(row[2])))
        for row in table(text_of(PAGE))
        if row[0].startswith("`refrain_")
    }
    assert documented == served()


def reasons() -> set[str]:
    """Every reason that is given to `Stage.refuse`, or reported for the cache."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in sources(PACKAGES))
    of_stages = re.findall(r"\.refuse\(\"(\w+)\"\)", code)
    of_cache = re.findall(r"refused=\{(.*?)\}", text_of("app/snapshot.py"))
    return {QueueFull.code, QueueTimeout.code, *of_stages, *re.findall(r"\"(\w+)\":", " ".join(of_cache))}


def scripts() -> set[str]:
    """Every script that is called, which what precedes several of them is not; and the plain commands."""
    bodies = {path.stem for path in (ROOT / "cache/lua").glob("*.lua")}
    code = "\n".join(path.read_text(encoding="utf-8") for path in sources(PACKAGES))
    plain = {name.lower() for name in re.findall(r"\.do\(\"(\w+)\"", code)}
    return bodies - {"conversation", "flight", "pool"} | plain


def test_the_metrics_page_lists_the_values_of_labels() -> None:
    """All are closed sets: no user, key or prompt can ever become a label's value."""
    documented = {row[0]: set(quoted(row[1])) for row in table(section(PAGE, "Label values"))}
    metrics = Metrics()
    assert documented == {
        "`stage`": {*STAGES, TOOLS},
        "`tool`": {UNKNOWN},
        "`status` of tools": {*Status} & set(TOOL_STATUSES),
        "`workflow`": set(),
        "`step`": set(),
        "`status` of steps": set(STEP_STATUSES),
        "`reason`": reasons(),
        "`route`": {NATIVE.route, OPENAI.route},
        "`role`": {*Role, "none"},
        "`outcome` of requests": set(Outcome),
        "`outcome` of upstream calls": set(metrics.upstream_calls),
        "`result`": {*CacheResult} & set(metrics.cache_results),
        "`phase`": set(RUNNING),
        "`source`": set(metrics.tokens),
        "`op`": {"ping", "encode", "decode", *scripts()},
    }


def test_queries_on_the_metrics_page_use_metrics_that_exist() -> None:
    """A histogram is asked by its series, so their suffixes are allowed here."""
    named = set(re.findall(r"refrain_\w+", section(PAGE, "Questions and their queries")))
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in named} <= set(served())
