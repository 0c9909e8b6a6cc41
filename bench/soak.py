"""A mixed load for a long while, with everything that goes wrong in the world: does anything add up?

    python bench/soak.py [--minutes 20] [--workers 2] [--embedded] [--people 32] [--seed 1]

Real processes on loopback. Prints what was promised, what was found, and one line of JSON; fails if a
promise was broken. Stops by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.soaking.report import line, table
from bench.soaking.scene import scene
from bench.soaking.soak import Outcome, Plan, soak


def main() -> int:
    parser = argparse.ArgumentParser(description="A soak of mixed load, judged at rest.")
    parser.add_argument("--minutes", type=float, default=20.0, help="of load, the warm-up included")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--embedded", action="store_true", help="the gateway's own Redis instead of one beside it"
    )
    parser.add_argument("--people", type=int, default=32, help="who ask at once")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    warm = min(60.0, options.minutes * 15)
    plan = Plan(
        warm_s=warm,
        load_s=options.minutes * 60 - warm,
        people=options.people,
        burst_every_s=min(75.0, options.minutes * 12),
        restart_every_s=min(180.0, options.minutes * 20),
        seed=options.seed,
    )
    with scene(options.workers, embedded=options.embedded, seed=options.seed) as made:
        outcome = asyncio.run(soak(made, plan))
    print(table(outcome))
    print(json.dumps(line(outcome, vars(options))))
    return 0 if _kept(outcome) else 1


def _kept(outcome: Outcome) -> bool:
    return all(verdict.kept for verdict in outcome.verdicts)


if __name__ == "__main__":
    sys.exit(main())
