"""Changes the program in every small way, one at a time, and asks whether a test notices.

    python -m scripts.mutate [admission broadcast/log.py …] [--sample N --seed S] [--again] [--budget S]

Works on a copy of the tree, so nobody has to stand still; each mutant meets only the tests that execute its
line, the quickest of its own package first. Results go to RESULTS, and what is known is not asked again: a
mutant that was noticed stays noticed until its module changes; `--again` tries those that were not.
docs/mutation.md says what is mutated, what is not, and what became of the survivors.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import accumulate
from math import inf
from pathlib import Path

from scripts.mutants import Mutant, mutants_of
from scripts.mutation import Collected, Lines, fork, judge, prepare, watch

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("admission", "processing", "broadcast")
FOLDERS = tuple(f"tests/unit/{package}" for package in (*PACKAGES, "chatbot"))
RESULTS = ROOT / "build" / "mutation.jsonl"
NOT_COPIED = (".*", "build", "dist", "node_modules", "__pycache__", "*.egg-info")
Judge = Callable[[Mutant, Sequence[str], float], int]
Verdict = tuple[Mutant, str, float]
KILLED, SURVIVED, TIMEOUT, UNSEEN = "killed", "survived", "timeout", "unseen"


@dataclass(frozen=True, slots=True)
class Cover:
    """Which tests execute what."""

    lines: Lines
    seconds: dict[str, float]
    budget_s: float

    def tests(self, mutant: Mutant) -> list[str]:
        """Those that can notice it, the likeliest and quickest first."""
        by_test = self.lines.get(mutant.path, {})
        wanted = set(mutant.lines)
        own = f"tests/unit/{mutant.path.removesuffix('.py').replace('/', '/test_')}"
        found = [test for test, lines in by_test.items() if not wanted or wanted.intersection(lines)]
        if not wanted:  # a test of a table need not execute a line of its module
            found = [test for test in self.seconds if not by_test or test in by_test or test.startswith(own)]
        found.sort(key=lambda test: (not test.startswith(own), self.seconds[test], test))
        spent = accumulate(self.seconds[test] for test in found)
        affordable = sum(so_far <= self.budget_s for so_far in spent)
        return found[: max(1, affordable)]


def copied(into: Path) -> Path:
    tree = into / "tree"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*NOT_COPIED), symlinks=True)
    return tree


def chosen(tree: Path, wanted: Sequence[str], sample: int, seed: int) -> Iterator[Mutant]:
    """The mutants to try; of each name on the command line at most `sample`, if that is not 0."""
    for name in wanted:
        paths = sorted((tree / name).rglob("*.py")) if (tree / name).is_dir() else [tree / name]
        found = [one for path in paths for one in mutants_of(str(path.relative_to(tree)), path.read_text())]
        if sample and sample < len(found):
            places = sorted(random.Random(seed).sample(range(len(found)), sample))
            found = [found[place] for place in places]
        yield from found


def identity(mutant: Mutant) -> str:
    """Of the mutant in this very module: any other change of the module makes another one of it."""
    return sha256(f"{mutant.path}\0{mutant.source}".encode()).hexdigest()[:16]


def known(results: Path) -> dict[str, str]:
    """What is known already; the last word counts."""
    if not results.exists():
        return {}
    rows = (json.loads(line) for line in results.read_text().splitlines())
    return {row["id"]: row["verdict"] for row in rows}


def covered(into: Path, budget_s: float) -> Cover:
    """One run of all tests without any mutant, which has to be green."""
    pid = fork(lambda: watch(FOLDERS, PACKAGES, into))
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        sys.exit("The tests fail without any mutant.")
    return Cover(**json.loads(into.read_text()), budget_s=budget_s)


def verdicts(mutants: Iterable[Mutant], cover: Cover, jobs: int, judge: Judge) -> Iterator[Verdict]:
    """Each mutant with what became of it and how long that took, `jobs` at a time."""
    at_work: dict[int, tuple[Mutant, float]] = {}
    for mutant in mutants:
        tests = cover.tests(mutant)
        if not tests:
            yield mutant, UNSEEN, 0.0
            continue
        if len(at_work) >= jobs:
            yield _next(at_work)
        own_s = sum(cover.seconds[test] for test in tests)
        at_work[fork(partial(judge, mutant, tests, own_s))] = mutant, time.monotonic()
    while at_work:
        yield _next(at_work)


def _next(at_work: dict[int, tuple[Mutant, float]]) -> Verdict:
    pid, status = os.wait()
    mutant, begun = at_work.pop(pid)
    return mutant, _verdict(os.waitstatus_to_exitcode(status), mutant), time.monotonic() - begun


def _verdict(code: int, mutant: Mutant) -> str:
    """1 to 4: a test failed, or could not even be imported."""
    if code == 0:
        return SURVIVED
    if code in (1, 2, 3, 4):
        return KILLED
    if -code in (signal.SIGXCPU, signal.SIGALRM, signal.SIGKILL):
        return TIMEOUT
    sys.exit(f"{mutant.path}:{mutant.line} {mutant.what}: the tests ended with {code}")


def run(mutants: Sequence[Mutant], cover: Cover, options: argparse.Namespace) -> dict[str, str]:
    """The verdict on each by its identity, written down as soon as it is known."""
    settled = {KILLED, TIMEOUT} if options.again else {KILLED, TIMEOUT, SURVIVED, UNSEEN}
    before = known(options.results)
    asked = [one for one in mutants if before.get(identity(one)) not in settled]
    options.results.parent.mkdir(parents=True, exist_ok=True)

    def judged(by: Judge, *, fresh: bool) -> None:
        with options.results.open("a") as file:
            those = (one for one in asked if one.fresh is fresh)
            for mutant, verdict, took in verdicts(those, cover, options.jobs, by):
                row = {"id": identity(mutant), "verdict": verdict, "path": mutant.path, "line": mutant.line}
                file.write(json.dumps({**row, "what": mutant.what, "s": round(took, 2)}) + "\n")
                file.flush()

    collected = Collected(lambda here: judged(here.judge, fresh=False))
    if os.waitpid(fork(lambda: collected.run(FOLDERS)), 0)[1]:
        sys.exit("The run among the collected tests has broken down.")
    judged(judge, fresh=True)
    return known(options.results)


def report(mutants: Sequence[Mutant], found: dict[str, str]) -> None:
    by_module: dict[str, Counter[str]] = defaultdict(Counter)
    for mutant in mutants:
        verdict = found[identity(mutant)]
        by_module[mutant.path][verdict] += 1
        if verdict in (SURVIVED, UNSEEN):
            print(f"{verdict} {mutant.path}:{mutant.line} {mutant.place}: {mutant.what}")
    for path, counts in [*by_module.items(), ("all", sum(by_module.values(), Counter()))]:
        total = sum(counts.values())
        noticed = counts[KILLED] + counts[TIMEOUT]
        missed = f"{counts[SURVIVED]} survived, {counts[UNSEEN]} unseen"
        caught = f"{counts[KILLED]} killed, {counts[TIMEOUT]} timed out"
        print(f"{path}: {total} mutants, {caught}, {missed}: {noticed / max(1, total):.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Mutation testing; see docs/mutation.md.")
    parser.add_argument("modules", nargs="*", default=PACKAGES, help="packages or files of them")
    parser.add_argument("--sample", type=int, default=0, help="at most so many per package or file named")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--budget", type=float, default=inf, help="seconds of tests per mutant, the quickest")
    parser.add_argument("--again", action="store_true", help="try again what survived before")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tree = copied(Path(folder))
        prepare(tree)
        mutants = list(chosen(tree, options.modules, options.sample, options.seed))
        cover = covered(Path(folder) / "cover.json", options.budget)
        print(f"{len(mutants)} mutants, {len(cover.seconds)} tests", flush=True)
        report(mutants, run(mutants, cover, options))
    print(f"{(time.monotonic() - begun) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
