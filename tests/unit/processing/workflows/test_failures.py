"""What fails in a run: it is seen in the templates and in the record, and it takes nobody else down."""

from __future__ import annotations

import asyncio

import pytest

from processing.ready import Ready
from runtime.errors import PrepareFailed, UpstreamBadResponse, UpstreamError, UpstreamRejected
from tests.fakes.workflows import Flows, last_text
from tests.virtual_time import virtual
from upstream.errors import UpstreamUnavailable

FORK = """
    name: fork
    pattern: fork_join
    branches:
      - {name: a, prompt: a}
      - {name: b, prompt: b, fatal: FATAL}
      - {name: c, prompt: c}
    answer:
      name: join
      prompt: "{{ results.a }}|{{ results.b }}|{{ results.c }}|no {{ missing | join }}"
"""
PIPELINE = """
    name: line
    pattern: pipeline
    steps:
      - {name: a, prompt: a}
      - {name: b, prompt: "{{ results.a }}"}
      - {name: c, prompt: "{{ results.b }}"}
      - {name: d, prompt: "{{ results.c }}"}
"""


def fork(*, fatal: bool = False) -> Flows:
    return Flows(FORK.replace("FATAL", str(fatal).lower()))


@virtual
async def test_a_failed_step_leaves_a_marked_gap() -> None:
    """Its siblings go on; the next step sees what is missing, and the answer is not kept for others."""
    flows = fork()
    flows.model.says["b"] = [UpstreamBadResponse()]
    flows.model.takes = {"b": 0.5}
    prepared = await flows.run("fork")
    assert last_text(prepared) == "a!|[missing: b: upstream_bad_response]|c!|no b"
    assert flows.statuses() == {"a": "done", "b": "failed", "c": "done", "join": "streams"}
    assert flows.entry("b").why == "upstream_bad_response"
    assert not prepared.store
    flows.assert_over()


@virtual
async def test_a_fatal_failure_ends_the_flight_at_once() -> None:
    """What still runs is for nobody: it is cancelled, its permits are back, and the record says so."""
    flows = fork(fatal=True)
    flows.model.says["b"] = [UpstreamBadResponse()]
    flows.model.takes = {"a": 0.2, "b": 0.5}
    began = asyncio.get_running_loop().time()
    with pytest.raises(PrepareFailed, match=r"'fork' stopped at its step 'b': upstream_bad_response"):
        await flows.run("fork")
    assert asyncio.get_running_loop().time() - began == pytest.approx(0.5)
    assert flows.statuses() == {"a": "done", "b": "failed", "c": "skipped", "join": "skipped"}
    assert flows.entry("c").why == "the run ended before it did"
    flows.assert_over()


@virtual
async def test_nothing_is_answered_from_nothing() -> None:
    """Rule 15: a step is skipped that has nothing of what it needs; if it is the last, the flight fails."""
    flows = Flows(PIPELINE)
    flows.model.says["a!"] = [UpstreamError()]
    with pytest.raises(PrepareFailed, match="stopped at its step 'd'"):
        await flows.run("line")
    assert [(step.name, step.status) for step in flows.record.steps] == [
        ("a", "done"),
        ("b", "failed"),
        ("c", "skipped"),
        ("d", "skipped"),
    ]
    assert flows.model.prompts() == ["a", "a!"]


@virtual
async def test_a_parallel_answer_says_what_is_missing() -> None:
    """A part may be missing from it, all of it may not."""
    text = "name: p\npattern: parallel\nsteps: [{name: a, prompt: a}, {name: b, prompt: b}]"
    flows = Flows(text)
    flows.model.says["a"] = [UpstreamError(), UpstreamError()]
    prepared = await flows.run("p")
    assert isinstance(prepared.direct, Ready)
    said = "".join(chunk.text for chunk in prepared.direct.chunks)
    assert said == "## a\n\n[missing: a: upstream_error]\n\n## b\n\nb!\n\n"
    assert not prepared.store

    flows.model.says["b"] = [UpstreamError()]
    with pytest.raises(PrepareFailed):
        await flows.run("p")


@virtual
async def test_a_nested_run_that_fails_is_a_gap_above() -> None:
    """A failure below, fatal there, is one failed step here: the record has both."""
    flows = Flows(
        """
        name: outer
        steps:
          - {name: a, prompt: a}
          - {name: sub, workflow: inner, prompt: a question}
          - {name: end, depends_on: [a, sub], prompt: "{{ results.a }} {{ results.sub }}"}
        """,
        """
        name: inner
        steps:
          - {name: x, prompt: x, fatal: true}
          - {name: y, depends_on: [x], prompt: y}
        """,
    )
    flows.model.says["x"] = [UpstreamError()]
    prepared = await flows.run("outer")
    assert "a! [missing: sub: The workflow 'inner' stopped at its step 'x'" in last_text(prepared)
    inner = flows.entry("sub").inner
    assert inner is not None
    assert [(step.name, step.status) for step in inner.steps] == [("x", "failed"), ("y", "skipped")]
    assert not prepared.store


@virtual
async def test_the_last_step_of_a_nested_run_may_fail_too() -> None:
    """It is called like the others there, so its failure is a gap like theirs."""
    flows = Flows(
        """
        name: outer
        steps:
          - {name: a, prompt: a}
          - {name: sub, workflow: inner, prompt: a question}
          - {name: end, depends_on: [a, sub], prompt: "{{ results.sub }}"}
        """,
        "name: inner\nsteps: [{name: only, prompt: only}]",
    )
    flows.model.says["only"] = [UpstreamError()]
    assert last_text(await flows.run("outer")) == "[missing: sub: its last step: upstream_error]"


@virtual
async def test_a_template_that_cannot_be_filled_fails_its_step() -> None:
    """No half of a prompt is sent, and no user's text is in the reason."""
    flows = Flows("""
        name: g
        steps:
          - {name: a, prompt: "{{ messages[0].nothing }}"}
          - {name: b, prompt: b}
          - {name: end, depends_on: [a, b], prompt: "{{ results.b }}"}
    """)
    await flows.run("g", "a secret")
    assert flows.entry("a").status == "failed"
    assert flows.entry("a").why.startswith("template: ")
    assert "secret" not in flows.entry("a").why
    assert flows.model.prompts() == ["b"]


@virtual
async def test_a_last_template_that_cannot_be_filled_fails_the_flight() -> None:
    """There is nothing to stream."""
    flows = Flows('name: g\nsteps: [{name: a, prompt: "{{ messages[7].content }}"}]')
    with pytest.raises(PrepareFailed):
        await flows.run("g")
    assert flows.entry("a").status == "failed"


@virtual
async def test_a_run_makes_no_more_calls_than_its_file_allows() -> None:
    """Nested ones and those of tools counted: the bound is on what the user pays for."""
    flows = Flows(
        """
        name: outer
        limits: {calls: 4}
        steps:
          - {name: a, prompt: a, tools: [look-up]}
          - {name: sub, depends_on: [a], workflow: inner, prompt: x}
          - {name: end, depends_on: [sub], prompt: x}
        """,
        """
        name: inner
        pattern: pipeline
        steps: [{name: x, prompt: x}, {name: y, prompt: y}, {name: z, prompt: z}]
        """,
        calls=1,
    )
    with pytest.raises(PrepareFailed, match="would make more than its 4 calls") as failed:
        await flows.run("outer")
    assert not failed.value.retryable
    assert len(flows.model.calls) == 4
    flows.assert_over()


@pytest.mark.parametrize(("error", "retryable"), [(UpstreamUnavailable(), True), (UpstreamRejected(), False)])
def test_whether_it_is_worth_asking_again_is_what_the_failure_says(
    error: UpstreamError, retryable: bool
) -> None:
    """A model that refuses a step will refuse it next time, too."""

    @virtual
    async def asked() -> None:
        flows = Flows(
            """
            name: w
            steps: [{name: a, prompt: a, fatal: true}, {name: b, depends_on: [a], prompt: b}]
            """
        )
        flows.model.says["a"] = [error]
        with pytest.raises(PrepareFailed) as failed:
            await flows.run("w")
        assert failed.value.retryable is retryable

    asked()


@virtual
async def test_there_is_no_such_workflow() -> None:
    """Only a hook can have named it: a client's request was refused before."""
    with pytest.raises(PrepareFailed, match="'nobody'") as failed:
        await fork().run("nobody")
    assert not failed.value.retryable


@virtual
async def test_a_plan_without_any_work_is_no_answer() -> None:
    """Rule 15 again: the coordinator's list is all that there is, and nobody has done what is on it."""
    flows = Flows("""
        name: hub
        pattern: hub_and_spoke
        coordinator: {name: boss, prompt: plan}
        workers: [{name: w1, does: sums, prompt: w1}, {name: w2, does: words, prompt: w2}]
        answer: {name: end, prompt: x}
    """)
    flows.model.says["plan"] = ['[{"worker": "w1", "task": "add"}]']
    flows.model.says["w1"] = [UpstreamError()]
    with pytest.raises(PrepareFailed, match="at its step 'end': nothing that it needs is there"):
        await flows.run("hub")
    assert flows.statuses() == {"boss": "done", "w1": "failed", "w2": "skipped", "end": "skipped"}
    assert not flows.entry("end").idle


@virtual
async def test_a_gap_below_is_not_kept_either() -> None:
    """The nested run has an answer, made of less than was asked for: the next request may get a whole one."""
    flows = Flows(
        """
        name: outer
        steps:
          - {name: sub, workflow: inner, prompt: x}
          - {name: end, depends_on: [sub], prompt: "{{ results.sub }}"}
        """,
        """
        name: inner
        pattern: fork_join
        branches: [{name: a, prompt: a}, {name: b, prompt: b}]
        answer: {name: y, prompt: y}
        """,
    )
    flows.model.says["b"] = [UpstreamError()]
    prepared = await flows.run("outer")
    assert flows.statuses() == {"sub": "done", "end": "streams"}
    assert last_text(prepared) == "y!"
    assert not prepared.store
