"""docs/README.md is the index: four kinds, each page listed once, there or among the decisions."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.architecture.pages import pages, section
from tests.architecture.tree import ROOT

INDEX = "docs/README.md"
KINDS = ("Tutorial", "How-to", "Reference", "Explanation")
#: The pages of this folder have an index of their own, which stands for them.
DECISIONS = "docs/design/README.md"


def rows(text: str) -> list[tuple[str, str]]:
    """Target and purpose of each row that begins with a link."""
    return re.findall(r"^\| \[[^\]]+\]\(([^)]+)\) \| (.+) \|$", text, re.MULTILINE)


def test_every_page_is_listed_exactly_once() -> None:
    """A page that no list names is found by nobody; one named twice has two purposes."""
    listed = Counter(
        "docs/" + target.removesuffix("README.md")
        for kind in KINDS
        for target, _ in rows(section(INDEX, kind))
    )
    found = {
        str(path.relative_to(ROOT)).removesuffix("README.md")
        for path in pages()
        if path.parent == ROOT / "docs" or path == ROOT / DECISIONS
    }
    assert listed == Counter(found - {"docs/"})


def test_every_decision_is_listed_exactly_once() -> None:
    """By the question that it answers, in the folder's own index."""
    text = (ROOT / DECISIONS).read_text(encoding="utf-8")
    listed = Counter(re.findall(r"^\| .+ \| \[[^\]]+\]\(([^)]+)\) \|$", text, re.MULTILINE))
    assert listed == Counter(
        path.name for path in pages() if path.parent == (ROOT / DECISIONS).parent
    ) - Counter(["README.md"])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_pages_with_a_purpose_in_one_line(kind: str) -> None:
    """A kind without pages is a promise that is not kept."""
    purposes = [purpose for _, purpose in rows(section(INDEX, kind))]
    assert purposes
    assert all(len(purpose) < 140 for purpose in purposes)
