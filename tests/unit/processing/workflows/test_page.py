"""docs/workflows.md says what the files may say: its tables, its example and its chart are the code's."""

from __future__ import annotations

import re
from pathlib import Path

from processing.workflows.drawing import mermaid
from processing.workflows.form import FILES, Agent, Limits, NeedingStep, Step, Worker
from processing.workflows.loading import read, read_folder
from processing.workflows.template import _FILTERS, VARIABLES

ROOT = Path(__file__).parents[4]
PAGE = (ROOT / "docs/workflows.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[str]:
    """The names in the first cells of the table below a heading."""
    part = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `([\w.]+)` \|", part, re.MULTILINE)


def fenced(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def typed() -> str:
    """The file that the page's own commands write."""
    [text] = re.findall(r"brief\.yaml <<'END'\n(.*?)^END$", PAGE, re.MULTILINE | re.DOTALL)
    return str(text)


def test_the_fields_are_those_of_the_files() -> None:
    """A field that is not on the page is found by nobody."""
    steps = {name for kind in (Step, NeedingStep, Worker, Agent) for name in kind.model_fields}
    assert set(rows("Steps")) == steps
    assert rows("Patterns") == list(FILES)
    head = {"name", "description", "model", "pattern", *(f"limits.{name}" for name in Limits.model_fields)}
    assert set(rows("A file")) == head
    assert set(rows("Templates")) == VARIABLES


def test_the_filters_are_those_of_the_sandbox() -> None:
    """As above; `d` is Jinja's short name of `default`."""
    listed = PAGE.split("\nFilters: ")[1].split("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", listed)) == set(_FILTERS) - {"d"}


def test_the_examples_are_workflows() -> None:
    """Who copies one has one: all in a folder, of every pattern there is, without a word of complaint."""
    texts = [typed(), *fenced("yaml")]
    workflows = read({f"{n}.yaml": text.encode() for n, text in enumerate(texts)}, model="any")
    assert len(workflows) == len(texts)
    assert {workflow.pattern for workflow in workflows.values()} == set(FILES)
    assert [node.name for node in workflows["brief"].graph.nodes] == ["for", "against", "weighed"]


def test_the_chart_is_the_one_of_the_example() -> None:
    """As it would be drawn today."""
    [chart] = fenced("mermaid")
    assert chart.strip() == mermaid(read_folder(ROOT / "examples/review", model="gpt-4o")["review"])
