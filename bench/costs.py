"""First costs of Refrain, beside reference servers on the same machine in the same run.

    make bench BENCHES=bench/costs.py [ARGS="--reps 1 --only S1,S3"]

Builds what it needs, prints each run as it ends, and the tables at the end. `--write` makes them the
new bench/RESULTS.md. bench/README.md says what the scenarios and the references are.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
from pathlib import Path

from bench.harness import report
from bench.harness.run import measure
from bench.harness.servers import BENCH, DidNotStart


def main() -> int:
    """0 if everything was measured and no answer was wrong."""
    parser = argparse.ArgumentParser(description="first costs of Refrain beside its references")
    parser.add_argument("--reps", type=int, default=3, help="repetitions; the tables show medians")
    parser.add_argument("--only", default="", help="scenarios, by the start of their names: S1,S3")
    parser.add_argument("--write", action="store_true", help="make the tables the new bench/RESULTS.md")
    options = parser.parse_args()
    subprocess.run([BENCH / "build.sh"], check=True)
    only = [name for name in options.only.split(",") if name]
    before = report.facts()
    try:
        results = asyncio.run(measure(options.reps, only, lambda line: print(line, flush=True)))
    except DidNotStart as error:
        print(error, file=sys.stderr)
        return 1
    page = report.page(results, before, options.reps)
    print(page)
    if options.write:
        _write(BENCH / "RESULTS.md", page)
    return 1 if any(sample.errors for sample in results.values()) else 0


def _write(path: Path, page: str) -> None:
    """What people have written below the tables stays."""
    _, found, notes = path.read_text().partition(report.NOTES) if path.exists() else ("", "", "")
    path.write_text(f"{page}\n{report.NOTES}{notes if found else chr(10)}")


if __name__ == "__main__":
    sys.exit(main())
