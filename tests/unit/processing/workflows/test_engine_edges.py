"""A run's ends: what each step's entry says afterwards, nested runs, and the step that hands it on."""

from __future__ import annotations

import asyncio

import pytest

from processing.account import account_of
from processing.ready import Ready
from processing.workflows.step import NoTools, WorkflowStep
from runtime.errors import PrepareFailed, UpstreamError
from tests.fakes.turn import FakeTurn, prompt
from tests.fakes.workflows import Flows, last_text
from tests.virtual_time import virtual

INNER = """
    name: inner
    pattern: fork_join
    branches: [{name: x, prompt: "x {{ question }}"}]
    answer: {name: z, prompt: "z {{ results.x }}"}
"""
OUTER = """
    name: outer
    steps:
      - {name: sub, workflow: inner, prompt: "of {{ question }}", FATAL}
      - {name: other, prompt: other}
      - {name: end, depends_on: [sub, other], prompt: "{{ results.sub }}|{{ results.other }}"}
"""
PARALLEL = "name: p\npattern: parallel\nsteps: [{name: a, prompt: a}, {name: b, prompt: b}]"


def outer(fatal: str = "fatal: false") -> Flows:
    return Flows(OUTER.replace("FATAL", fatal), INNER)


@virtual
async def test_a_nested_answer_is_a_result_like_any_other() -> None:
    """Its steps are in the record below, its last one was called, and the entry above says nothing odd."""
    flows = outer()
    assert last_text(await flows.run("outer")) == "z x of q!!|other!"
    entry = flows.entry("sub")
    assert entry.inner is not None
    assert (entry.status, entry.why, entry.text, entry.raw) == ("done", "", "z x of q!!", "z x of q!!")
    assert [(each.status, each.text) for each in entry.inner.steps] == [
        ("done", "x of q!"),
        ("done", "z x of q!!"),
    ]
    assert flows.shown == ["workflow/sub", "workflow/other", "workflow/sub/x", "workflow/sub/z"]


@virtual
async def test_a_nested_last_step_that_fails_has_no_text() -> None:
    """The entry below says failed, the one above why."""
    flows = outer()
    flows.model.says["z x of q!"] = [UpstreamError()]
    assert last_text(await flows.run("outer")) == "[missing: sub: its last step: upstream_error]|other!"
    inner = flows.entry("sub").inner
    assert inner is not None
    assert [(each.status, each.text) for each in inner.steps] == [("done", "x of q!"), ("failed", "")]
    assert not inner.whole


@virtual
async def test_a_nested_parallel_answer_is_its_text() -> None:
    """It has no last step to call."""
    flows = Flows(
        "name: w\npattern: pipeline\n"
        "steps: [{name: s, workflow: p, prompt: x}, {name: e, prompt: '{{ results.s }}'}]",
        PARALLEL,
    )
    assert last_text(await flows.run("w")) == "## a\n\na!\n\n## b\n\nb!\n\n"
    assert flows.model.prompts() == ["a", "b"]


@virtual
async def test_a_fatal_failure_ends_what_runs_beside_it_and_below_it() -> None:
    """At once; the first failure is the one that is told."""
    flows = outer("fatal: true")
    flows.model.says["x of q"] = [UpstreamError()]
    flows.model.takes = {"other": 60}
    began = asyncio.get_running_loop().time()
    with pytest.raises(PrepareFailed, match="'outer' stopped at its step 'sub'") as failed:
        await flows.run("outer")
    assert asyncio.get_running_loop().time() - began == pytest.approx(1)
    assert flows.statuses() == {"sub": "failed", "other": "skipped", "end": "skipped"}
    assert flows.entry("other").why == flows.entry("end").why == "the run ended before it did"
    assert "Steps: sub failed" in failed.value.message
    assert "; other skipped (the run ended before it did); end skipped" in failed.value.message
    flows.assert_over()


@virtual
async def test_each_step_is_over_once_whatever_became_of_it() -> None:
    """A page that shows what runs would show it for ever."""
    flows = outer()
    flows.model.says["other"] = [UpstreamError()]
    await flows.run("outer")
    assert sorted(flows.ended) == sorted(flows.shown)
    assert flows.ended.index("workflow/sub/x") < flows.ended.index("workflow/sub")


@virtual
async def test_a_run_is_told_once_with_its_account() -> None:
    """Also one that failed; the account of one that did not stands before its answer."""
    flows = outer()
    prepared = await flows.run("outer")
    assert account_of(prepared.preface) == {"workflow": flows.record.summary()}
    assert prepared.preface[0].raw.count(b'"workflow:outer"') == 1
    assert (prepared.direct, len(flows.records)) == (None, 1)
    flows.model.says["x of q"], flows.model.says["other"] = [UpstreamError()], [UpstreamError()]
    with pytest.raises(PrepareFailed):
        await flows.run("outer")
    assert len(flows.records) == 2


@virtual
async def test_an_answer_of_all_steps_needs_no_call_and_has_a_way_back() -> None:
    """What a direct answer falls back to is a prompt without one."""
    flows = Flows(PARALLEL)
    prepared = await flows.run("p")
    assert isinstance(prepared.direct, Ready)
    assert prepared.direct.otherwise.direct is None
    assert prepared.direct.otherwise.preface == prepared.preface
    assert prepared.store


@virtual
async def test_what_was_not_to_be_kept_is_not_kept() -> None:
    """A whole run does not allow what the request forbids."""
    flows = Flows(PARALLEL)
    asked = prompt()
    body = {**asked.body, "model": "workflow:p"}
    kept = await flows.step.run(type(asked)(body, FakeTurn(), store=False))
    assert not kept.store


@virtual
async def test_steps_without_tools_have_none() -> None:
    """A file that names one is refused at the start: to be asked for it is a fault of ours."""
    tools = NoTools()
    asked = prompt()
    assert tools.bounded(asked) is asked
    with pytest.raises(AssertionError, match="a step names a tool"):
        await tools.ask(FakeTurn(), {}, ["x"])
    assert WorkflowStep.name == "workflow"
