"""The pictures of a workflow: every step and every arrow, in a form that can be pasted."""

from __future__ import annotations

from textwrap import dedent

from processing.workflows.drawing import mermaid, text
from tests.fakes.workflows import workflows

HUB = """
    name: hub
    description: Who does what.
    pattern: hub_and_spoke
    coordinator: {name: boss, model: big, prompt: x, fatal: true}
    workers:
      - {name: w1, does: sums, prompt: x, timeout_s: 5, retries: 1, fallback: z, tools: [t]}
      - {name: w2, does: words, prompt: x, workflow: inner}
    answer: {name: end, model: 'a "quoted" #1', prompt: x}
"""
INNER = "name: inner\npattern: parallel\nsteps: [{name: a, prompt: x}, {name: b, prompt: x}]"
FOUND = workflows(HUB, INNER, model="m", tools=["t"])


def drawn(picture: str) -> str:
    return dedent(picture).strip("\n")


def test_a_chart_has_every_step_and_every_need() -> None:
    """Names with hyphens or quotes would break the chart: nodes are numbered, labels escaped."""
    assert mermaid(FOUND["hub"]) == drawn("""
        flowchart TD
            question([question])
            n0["boss<br>big"]
            n1["w1<br>m"]
            n2[["w2<br>workflow:inner"]]
            n3(["end<br>a #quot;quoted#quot; #35;1"])
            question --> n0
            n0 -.-> n1
            n0 -.-> n2
            n1 --> n3
            n2 --> n3
    """)


def test_a_chart_without_a_last_step_ends_in_all() -> None:
    """What nobody asks a model for is drawn too: it is the answer."""
    assert mermaid(FOUND["inner"]) == drawn("""
        flowchart TD
            question([question])
            n0["a<br>m"]
            n1["b<br>m"]
            question --> n0
            question --> n1
            answer(["all results, in declared order"])
            n0 --> answer
            n1 --> answer
    """)


def test_a_terminal_sees_what_runs_beside_what() -> None:
    """A level is a number; all that a step may do is on its line."""
    assert text(FOUND["hub"]) == drawn("""
        hub: hub_and_spoke, 4 steps, at most 50 calls before the answer
        Who does what.

         1  boss  big             fatal
         2  w1    m               after boss · if there is work for it · with t · 5 s · tried 2 times · else z
            w2    workflow:inner  after boss · if there is work for it
         3  end   a "quoted" #1   after w1, w2 · streams
    """)
    assert text(FOUND["inner"]) == drawn("""
        inner: parallel, 2 steps, at most 50 calls before the answer

         1  a  m
            b  m
            answer: all results, in declared order
    """)
