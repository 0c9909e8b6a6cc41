"""The workflows on docs/workflows.md, served as they stand there: each is asked, and answers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.system.client import Client
from tests.system.processes import ROOT
from tests.system.scene import Simulate, Start

pytestmark = pytest.mark.anyio

PAGE = (ROOT / "docs/workflows.md").read_text(encoding="utf-8")
#: Steps of a run on a model whose replies are no JSON: nothing is handed out, nothing is published.
STEPS = {
    "article": ["facts", "draft", "text"],
    "second-opinions": ["optimist", "pessimist"],
    "court": ["plaintiff@1", "defendant@1", "plaintiff@2", "defendant@2", "judge"],
    "journey": ["planner", "trains", "hotels", "plan"],
    "newsroom": [*(f"{name}@{turn}" for turn in (1, 2, 3) for name in ("reporter", "sceptic")), "editor"],
    "release-note": ["changes", "risks", "thanks", "check", "note"],
}
IDLE = {"sceptic@1", "reporter@2", "sceptic@2", "reporter@3", "sceptic@3"}


async def test_every_example_of_the_page_runs(simulate: Simulate, start: Start, tmp_path: Path) -> None:
    """Who copies one gets answers, not a refusal at the first request; and the record shows each step."""
    for number, text in enumerate(re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)):
        (tmp_path / f"{number}.yaml").write_text(text)
    gateway = start(simulate(ttft=0, tps=0, tokens=6), WORKFLOWS=tmp_path, WORKFLOW_MODEL="any")
    async with Client(gateway.url) as client:
        for name, steps in STEPS.items():
            answer = await client.complete("A garden?", model=f"workflow:{name}")
            assert answer.status == 200, answer.json
            record = answer.json["refrain"]["workflow"]["steps"]
            assert [step["step"] for step in record] == steps
            assert {step["step"] for step in record if step["status"] == "skipped"} == IDLE & set(steps)
            last = "done" if name == "second-opinions" else "streams"
            assert record[-1]["status"] == last
        listed = {each["id"] for each in (await client.call("GET", "/v1/models")).json["data"]}
    assert listed == {"refrain-sim", *(f"workflow:{name}" for name in STEPS)}
