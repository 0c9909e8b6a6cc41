"""The results as a page: where and when, the targets, then the numbers behind them."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Final

from bench.harness.load import Sample
from bench.harness.run import MEMORY, SUBSCRIBERS, Results
from bench.harness.scenarios import REFRAIN, SCENARIOS
from bench.harness.servers import LOAD_CORE, ROOT, SERVER_CORE
from bench.harness.targets import GOALS, PER_REQUEST, PER_TOKEN

NOTES: Final = "## Notes\n"
_PACKAGES: Final = ("fastapi", "uvicorn", "uvloop", "httptools", "aiohttp", "msgspec", "redis", "hiredis")
_COLUMNS: Final = (
    ("req/s", "rps", 0),
    ("p50 ms", "latency.p50_ms", 2),
    ("p99 ms", "latency.p99_ms", 2),
    ("first token p50 ms", "ttft.p50_ms", 2),
    ("wall s", "wall_s", 2),
    ("upstream calls", "upstream.requests", 0),
    ("core share", "server_core_share", 2),
    ("CPU µs/request", PER_REQUEST, 0),
    ("CPU µs/token", PER_TOKEN, 1),
)


def facts() -> list[str]:
    """What the numbers depend on, taken before the run."""
    return [
        f"- **Date**: {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC",
        f"- **Commit**: {_commit()}",
        f"- **Machine**: {os.cpu_count()} cores of {_cpu()}, {platform.system()} {platform.release()}; "
        f"load average before the run {os.getloadavg()[0]:.1f}",
        f"- **Versions**: Python {platform.python_version()}, "
        + ", ".join(f"{package} {version(package)}" for package in _PACKAGES),
        f"- **Cores**: the server under test on {SERVER_CORE}; upstream, load and Redis on {LOAD_CORE}",
    ]


def _commit() -> str:
    def git(*words: str) -> str:
        run = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
        return run.stdout.strip()

    changed = " with uncommitted changes" if git("status", "--porcelain", "--untracked-files=no") else ""
    return (git("rev-parse", "--short", "HEAD") or "unknown") + changed


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def page(results: Results, before: list[str], reps: int) -> str:
    """Markdown. Medians of `reps` repetitions; only ratios within one run mean anything."""
    parts = [
        "# First costs",
        f"Command: `make bench BENCHES=bench/costs.py ARGS=--write`, medians of {reps}. Only ratios within "
        "the run mean anything: absolute numbers move with whatever else the machine does.",
        "\n".join([*before, f"- **Load average after the run**: {os.getloadavg()[0]:.1f}"]),
        "## Targets\n\n" + _goals(results),
    ]
    for scenario in SCENARIOS:
        rows = {
            name: results[scenario.name, name] for name in scenario.who if (scenario.name, name) in results
        }
        if rows:
            parts.append(f"## {scenario.name}: {scenario.what}\n\n" + _table(rows))
    memory = {name: sample for (scenario, name), sample in results.items() if scenario == MEMORY}
    if memory:
        parts.append(f"## S6: memory of a waiting subscriber, {SUBSCRIBERS} of them\n\n" + _memory(memory))
    errors = [
        f"- {scenario}, {name}: {sample.errors}"
        for (scenario, name), sample in results.items()
        if sample.errors
    ]
    parts.append("## Errors\n\n" + ("\n".join(errors) or "None: every text was checked byte by byte."))
    return "\n\n".join(parts) + "\n"


def _goals(results: Results) -> str:
    lines = ["| Target | limit | measured | |", "|---|---|---|---|"]
    for goal in GOALS:
        value = goal.value(results)
        if value is not None:
            limit = f"{'≥' if goal.least else '≤'} {goal.limit:g} {goal.unit}"
            verdict = "met" if goal.met(value) else "**missed**"
            lines.append(f"| {goal.what} | {limit} | {value:.2f} {goal.unit} | {verdict} |")
    return "\n".join(lines)


def _table(rows: dict[str, Sample]) -> str:
    """`Refrain costs`: its CPU per token, or per request where nothing streams, over this row's."""
    columns = [column for column in _COLUMNS if any(column[1] in sample.numbers for sample in rows.values())]
    unit = PER_TOKEN if any(PER_TOKEN in sample.numbers for sample in rows.values()) else PER_REQUEST
    ours = rows[REFRAIN].numbers.get(unit) if REFRAIN in rows else None
    lines = [
        f"| | {' | '.join(title for title, _, _ in columns)} | Refrain costs |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for name, sample in rows.items():
        cells = [_cell(sample.numbers.get(key), digits) for _, key, digits in columns]
        theirs = sample.numbers.get(unit)
        cells.append(f"{ours / theirs:.2f} x" if ours and theirs and name != REFRAIN else "")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _memory(rows: dict[str, Sample]) -> str:
    lines = ["| | KB per subscriber | process before, MB | held, MB |", "|---|---|---|---|"]
    for name, sample in rows.items():
        keys = ("rss_per_subscriber_kb", "rss_start_mb", "rss_held_mb")
        lines.append(f"| {name} | {' | '.join(_cell(sample.numbers.get(key), 1) for key in keys)} |")
    return "\n".join(lines)


def _cell(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"
