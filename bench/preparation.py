"""What a phase of steps gains, and how tools share a limit: a real gateway on the simulated model.

    make bench BENCHES=bench/preparation.py [ARGS="--reps 5"]

A phase is the preparation of a workflow whose steps need nothing, beside the same steps one after the other;
tools are 10, 50 and 100 calls of one reply at a limit of 10. Interleaved, medians; prints Markdown for
RESULTS.md, and fails if a phase gains less than it must, or a limit is not kept.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import math
import statistics
import sys
import tempfile
from contextlib import AsyncExitStack
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

import httpx

from bench.harness.servers import DidNotStart, Server
from bench.preparing.curve_tools import TAKES_S

SIM_PORT: Final = 9111
PORT: Final = 9112
URL: Final = f"http://127.0.0.1:{PORT}"
LIMIT: Final = 10
SIZES: Final = (10, 50, 100)
MUST_GAIN: Final = {5: 4.5, 15: 13.0}
#: One call of a step takes so long: 0.3 s before its first token, and it has few.
CALL: Final = "[[sim ttft=0.3 tokens=3 tps=1000]]"


async def main() -> int:
    parser = argparse.ArgumentParser(description="what preparation gains and keeps")
    parser.add_argument("--reps", type=int, default=5, help="repetitions; the tables show medians")
    reps = parser.parse_args().reps
    try:
        async with AsyncExitStack() as stack:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            notes = scratch / "notes.jsonl"
            for server in _servers(scratch, notes):
                await stack.enter_async_context(server.running(scratch))
            client = await stack.enter_async_context(httpx.AsyncClient(base_url=URL, timeout=120))
            kept = await _phases(client, reps)
            return 0 if await _tools(client, notes, reps) and kept else 1
    except DidNotStart as error:
        print(error, file=sys.stderr)
        return 1


def _servers(scratch: Path, notes: Path) -> list[Server]:
    flows = scratch / "flows"
    flows.mkdir()
    for size in MUST_GAIN:
        for name, pattern in (("phase", "fork_join"), ("chain", "pipeline")):
            (flows / f"{name}{size}.yaml").write_text(_workflow(f"{name}{size}", pattern, size))
    settings = {
        "OPENAI_BASE_URL": f"http://127.0.0.1:{SIM_PORT}/v1",
        "REFRAIN_WORKFLOWS": str(flows),
        "REFRAIN_WORKFLOW_MODEL": "refrain-sim",
        "REFRAIN_TOOLS": "bench.preparing.curve_tools:TOOLS",
        "REFRAIN_MAX_CONCURRENT_TOOLS": "100",
        "REFRAIN_TOOL_ROUNDS": "1",
        "BENCH_TOOL_NOTES": str(notes),
    }
    serve = [sys.executable, "-m", "app.cli", "serve", "--port", str(PORT)]
    sim = [sys.executable, "-m", "app.cli", "sim", "--port", str(SIM_PORT)]
    return [Server("simulator", sim, SIM_PORT, core="0"), Server("refrain", serve, PORT, env=settings)]


def _workflow(name: str, pattern: str, size: int) -> str:
    """`size` steps that all ask something else, else they would share a call; then an answer."""
    steps = [{"name": f"s{n}", "prompt": f"{n}: {{{{ question }}}}"} for n in range(size)]
    answer = {"name": "answer", "prompt": "{{ question }}"}
    parts: dict[str, Any] = {"branches": steps, "answer": answer}
    if pattern == "pipeline":
        parts = {"steps": [*steps, answer]}
    return json.dumps({"name": name, "pattern": pattern, **parts})  # which is YAML too


async def _phases(client: httpx.AsyncClient, reps: int) -> bool:
    print("| Steps of a phase | one after the other, s | at the same time, s | times as fast | must be |")
    print("|---|---|---|---|---|")
    kept = True
    for size, must in MUST_GAIN.items():
        seconds: dict[str, list[float]] = {"chain": [], "phase": []}
        for rep in range(reps):
            for name, found in seconds.items():
                found.append(await _prepared_s(client, f"workflow:{name}{size}", f"{CALL} {rep}"))
        chain, phase = (statistics.median(found) for found in seconds.values())
        gain = statistics.median(a / b for a, b in zip(*seconds.values(), strict=True))
        kept = kept and gain >= must
        print(f"| {size} | {chain:.2f} | {phase:.2f} | {gain:.2f} | {must} |", flush=True)
    return kept


async def _prepared_s(client: httpx.AsyncClient, model: str, question: str) -> float:
    """Seconds from the leaders permit to the prompt, as the gateway tells."""
    asked = (await client.post("/chat", json={"model": model, "message": question})).raise_for_status().json()
    await client.get(asked["stream_url"])
    record = (await client.get(f"/chat/{asked['id']}")).json()
    assert record["status"] == "completed", record
    return float(record["timings"]["prepare_ms"]) / 1000


async def _tools(client: httpx.AsyncClient, notes: Path, reps: int) -> bool:
    print("\n| Calls at a limit of 10 | peak | ideal rounds, s | over ideal | p50 s | p95 s | last s |")
    print("|---|---|---|---|---|---|---|")
    kept = True
    for size in SIZES:
        runs = [await _calls(client, notes, size, rep) for rep in range(reps)]
        ideal = math.ceil(size / LIMIT) * TAKES_S
        total = statistics.median(run[-1] for _, run in runs)
        peaks = {peak for peak, _ in runs}
        points = [statistics.median(run[round(at * size) - 1] for _, run in runs) for at in (0.5, 0.95, 1.0)]
        kept = kept and peaks == {LIMIT} and total <= ideal * 1.1
        cells = [str(size), str(max(peaks)), f"{ideal:.1f}", f"{total / ideal - 1:.1%}"]
        print(f"| {' | '.join(cells + [f'{point:.3f}' for point in points])} |", flush=True)
    return kept


async def _calls(client: httpx.AsyncClient, notes: Path, size: int, rep: int) -> tuple[int, list[float]]:
    """The peak, and when each call was over, from the begin of the first."""
    before = len(_noted(notes))
    calls = ",".join(f"wait:{_arguments(rep * 1000 + n)}" for n in range(size))
    await _prepared_s(client, "refrain-sim", f"[[sim ttft=0 tokens=3 tps=1000 calls={calls}]] {size} {rep}")
    ran = _noted(notes)[before:]
    assert len(ran) == size, f"{len(ran)} of {size} calls ran"
    # An end before a begin of the same moment: a slot is given on at once.
    moves = sorted((moment, step) for begin, end in ran for moment, step in ((begin, 1), (end, -1)))
    first = moves[0][0]
    return max(accumulate(step for _, step in moves)), sorted(end - first for _, end in ran)


def _noted(notes: Path) -> list[list[float]]:
    lines = notes.read_text().splitlines() if notes.exists() else []
    return [json.loads(line)[1:] for line in lines]


def _arguments(n: int) -> str:
    return base64.urlsafe_b64encode(json.dumps({"n": n}).encode()).decode().rstrip("=")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
