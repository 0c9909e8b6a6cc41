"""The record: what each step cost and how it ended, in declared order, and no text of anybody."""

from __future__ import annotations

import json

import pytest

from processing.workflows.record import Cost
from runtime.errors import UpstreamAuth, UpstreamError
from tests.fakes.workflows import Flows
from tests.virtual_time import virtual

FILE = """
    name: w
    steps:
      - {name: a, prompt: "secret a", fallback: other}
      - {name: b, prompt: b, retries: 1}
      - {name: c, depends_on: [b], prompt: c}
      - {name: end, depends_on: [a, c], prompt: end}
"""


@virtual
async def test_every_step_says_what_it_cost_and_how_it_ended() -> None:
    """Also the failed and the skipped ones: a branch that is lost in silence is the worst failure."""
    flows = Flows(FILE, calls=1)
    flows.model.says["secret a"] = [UpstreamAuth(), "secret answer"]
    flows.model.says["b"] = [UpstreamError(), UpstreamError()]
    await flows.run("w", "secret question")
    summary = flows.record.summary()
    assert summary["workflow"] == "w"
    assert len(summary["version"]) == 32
    tokens = {"prompt_tokens": 3, "completion_tokens": 2}
    none = {"prompt_tokens": 0, "completion_tokens": 0}
    assert summary["steps"] == [
        {"step": "a", "status": "done", "why": "answered by the fallback: upstream_auth", "model": "other",
         "fallback": True, "calls": 2, **tokens, "seconds": 2.0, "queued_s": 1.0},
        {"step": "b", "status": "failed", "why": "upstream_error", "calls": 2, **none, "seconds": 2.0,
         "queued_s": pytest.approx(1.75)},
        {"step": "c", "status": "skipped", "why": "nothing that it needs is there", "calls": 0, **none,
         "seconds": 0.0, "queued_s": 0.0},
        {"step": "end", "status": "streams", "calls": 0, **none, "seconds": 0.0, "queued_s": 0.0},
    ]  # fmt: skip
    assert "secret" not in json.dumps(summary)
    assert "secret" not in repr(flows.record)


@pytest.mark.parametrize(
    "usage", [None, {}, {"prompt_tokens": "7"}, {"prompt_tokens": -1}, {"prompt_tokens": True}]
)
def test_what_is_no_number_of_tokens_counts_as_none(usage: dict[str, object] | None) -> None:
    """An upstream may say anything; it must not fail a step that has its answer."""
    cost = Cost()
    cost.add(usage)
    assert cost == Cost()
