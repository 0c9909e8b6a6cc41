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


def fenced(kind: str) -> str:
    found = re.search(rf"^```{kind}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found.group(1)


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


def test_the_example_is_a_workflow() -> None:
    """Who copies it has one."""
    assert [node.name for node in read({"x.yaml": fenced("yaml").encode()})["brief"].graph.nodes] == [
        "for",
        "against",
        "weighed",
    ]


def test_the_chart_is_the_one_of_the_example() -> None:
    """As it would be drawn today."""
    assert fenced("mermaid").strip() == mermaid(read_folder(ROOT / "examples", model="gpt-4o")["review"])
